/* SPDX-License-Identifier: MIT */
/*
 * The loop on io_uring: multishot poll, accept and recvmsg (received into one shared ring of buffers), sends, and waiting, all
 * through one ring and usually one system call per turn. A completion names its source by pointer and its operation in the
 * low bits; a source lives until its last completion has come.
 *
 * Descriptors are never received through the ring (clients send none): recvmsg is given no room for them, so the kernel drops
 * them and says so.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fixd/loop/backend.h"
#include "wire/wire.h"

#define ENTRIES 512
#define N_BUFFERS 512 /* a power of two */
#define BUFFER_SIZE (sizeof(struct io_uring_recvmsg_out) + WIRE_MESSAGE_MAX)
#define BUFFER_GROUP 1

enum operation { OP_EVENT, OP_SEND };
#define OP_MASK ((uintptr_t)1)

struct uring_state {
	struct io_uring ring;
	struct io_uring_buf_ring *buffers;
	size_t buffers_size;
	char *memory;
	struct msghdr template; /* of recvmsg: no name, no control data */
	unsigned turn; /* completions of this turn */
};

/*
 * With so few completions in a turn a packet is sent by a call of its own: through the ring its completion would cost another
 * turn. With more, the ring sends them all in one call.
 */
#define FEW 4


struct sending {
	struct msghdr msg;
	struct iovec iov;
	union {
		struct cmsghdr align;
		char bytes[PACKET_CONTROL_SIZE];
	} control;
};

static struct io_uring_sqe *next_sqe(struct uring_state *st)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&st->ring);

	while (!sqe) {
		io_uring_submit(&st->ring);
		sqe = io_uring_get_sqe(&st->ring);
	}
	return sqe;
}

static void return_buffer(struct uring_state *st, unsigned id)
{
	io_uring_buf_ring_add(st->buffers, st->memory + id * BUFFER_SIZE, BUFFER_SIZE, (unsigned short)id,
			      io_uring_buf_ring_mask(N_BUFFERS), 0);
	io_uring_buf_ring_advance(st->buffers, 1);
}

/* io_uring_setup_buf_ring() came with liburing 2.4. */
static int setup_buffers(struct uring_state *st)
{
	struct io_uring_buf_reg reg = { .ring_entries = N_BUFFERS, .bgid = BUFFER_GROUP };
	void *p;
	int r;

	st->buffers_size = N_BUFFERS * sizeof(struct io_uring_buf);
	p = mmap(NULL, st->buffers_size + N_BUFFERS * BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	st->buffers = p;
	st->memory = (char *)p + st->buffers_size;
	reg.ring_addr = (uintptr_t)p;
	r = io_uring_register_buf_ring(&st->ring, &reg, 0);
	if (r < 0)
		return r;
	io_uring_buf_ring_init(st->buffers);
	for (unsigned i = 0; i < N_BUFFERS; i++)
		return_buffer(st, i);
	return 0;
}

static int setup_ring(struct uring_state *st)
{
	/* From the best to what the oldest supported kernel knows. */
	static const unsigned flags[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP,
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_CLAMP,
		0,
	};
	int r = -EINVAL;

	for (size_t i = 0; r == -EINVAL && i < ELEMENTSOF(flags); i++)
		r = io_uring_queue_init(ENTRIES, &st->ring, flags[i]);
	return r;
}

static void arm_receive(struct uring_state *st, int fd, void *data)
{
	struct io_uring_sqe *sqe = next_sqe(st);

	io_uring_prep_recvmsg_multishot(sqe, fd, &st->template, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	io_uring_sqe_set_data(sqe, data);
}

/* Some sandboxes allow the set-up and nothing else, some kernels lack what we use: send a packet round and see. */
static int probe(struct uring_state *st)
{
	_cleanup_fd_ int here = -1, there = -1;
	struct __kernel_timespec second = { .tv_sec = 1 };
	struct io_uring_cqe *cqe;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	here = pair[0];
	there = pair[1];
	arm_receive(st, here, NULL);
	if (send(there, "x", 1, MSG_NOSIGNAL) != 1)
		return -errno;
	r = io_uring_submit(&st->ring);
	if (r >= 0)
		r = io_uring_wait_cqe_timeout(&st->ring, &cqe, &second);
	if (r < 0)
		return r;
	r = cqe->res < 0 ? cqe->res : (cqe->flags & IORING_CQE_F_BUFFER) ? 0 : -EOPNOTSUPP;
	if (r == 0)
		return_buffer(st, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	io_uring_cqe_seen(&st->ring, cqe);
	return r;
	/* Closing the pair ends the multishot; its last completion has no source and is passed over. */
}

static char *explain(int err)
{
	switch (err) {
	case -EPERM:
	case -EACCES:
		return xasprintf("the kernel refuses io_uring: kernel.io_uring_disabled is set, or a seccomp filter (containers "
				 "have one)");
	case -ENOSYS:
		return xasprintf("this kernel has no io_uring, or a seccomp filter hides it");
	case -ENOMEM:
		return xasprintf("no memory may be locked for io_uring: raise `ulimit -l`");
	default:
		return xasprintf("io_uring lacks what fixd needs (Linux 6.0): %s", strerror(-err));
	}
}

static void uring_deinit(struct loop *l)
{
	struct uring_state *st = l->state;

	io_uring_queue_exit(&st->ring);
	if (st->buffers)
		munmap(st->buffers, st->buffers_size + N_BUFFERS * BUFFER_SIZE);
	free(st);
}

static int uring_init(struct loop *l, char **reason)
{
	struct uring_state *st = xcalloc(1, sizeof *st);
	int r = setup_ring(st);

	if (r < 0) {
		*reason = explain(r);
		free(st);
		return r;
	}
	l->state = st;
	/* Saves a look-up per turn; a kernel without it does without it. */
	(void)io_uring_register_ring_fd(&st->ring);
	r = setup_buffers(st);
	if (r == 0)
		r = probe(st);
	if (r == 0)
		r = io_uring_ring_dontfork(&st->ring);
	if (r < 0) {
		*reason = explain(r);
		uring_deinit(l);
	}
	return r;
}

static int uring_arm(struct loop *l, struct source *s)
{
	struct uring_state *st = l->state;
	struct io_uring_sqe *sqe;

	s->armed = true;
	s->inflight++;
	if (s->kind == SOURCE_MESSAGES) {
		arm_receive(st, s->fd, s);
		return 0;
	}
	/* A listening socket that was handed to us may be non-blocking; the ring would not wait for it. */
	if (s->kind == SOURCE_ACCEPT)
		fd_set_nonblock(s->fd, false);
	sqe = next_sqe(st);
	if (s->kind == SOURCE_ACCEPT)
		io_uring_prep_multishot_accept(sqe, s->fd, NULL, NULL, SOCK_CLOEXEC);
	else
		io_uring_prep_poll_multishot(sqe, s->fd, POLLIN);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static bool send_now(struct source *s, const struct msghdr *msg)
{
	ssize_t n = sendmsg(s->fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	source_packet_done(s, n < 0 ? -errno : 0);
	return true;
}

static void uring_send(struct loop *l, struct source *s)
{
	struct uring_state *st = l->state;
	struct io_uring_sqe *sqe;
	struct sending *sending = s->backend;

	if (!sending)
		s->backend = sending = xcalloc(1, sizeof *sending);
	packet_to_msghdr(link_entry(s->packets.next, struct packet, link), &sending->msg, &sending->iov,
			 sending->control.bytes);
	if (st->turn <= FEW && send_now(s, &sending->msg))
		return;
	sqe = next_sqe(st);
	s->inflight++;
	io_uring_prep_sendmsg(sqe, s->fd, &sending->msg, MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, (void *)((uintptr_t)s | OP_SEND));
}

static void cancel(struct loop *l, struct source *s, enum operation op)
{
	struct io_uring_sqe *sqe = next_sqe(l->state);

	io_uring_prep_cancel(sqe, (void *)((uintptr_t)s | op), 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void uring_disarm(struct loop *l, struct source *s)
{
	struct uring_state *st = l->state;

	if (s->armed)
		cancel(l, s, OP_EVENT);
	if (s->sending)
		cancel(l, s, OP_SEND);
	/* The entries name the descriptor, which is about to be closed: the kernel must have seen them before. */
	io_uring_submit(&st->ring);
}

static void uring_pause(struct loop *l, struct source *s)
{
	cancel(l, s, OP_EVENT);
}

static void received(struct uring_state *st, struct source *s, struct io_uring_cqe *cqe)
{
	struct io_uring_recvmsg_out *out;
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (!(cqe->flags & IORING_CQE_F_BUFFER)) {
		if (!s->closed && cqe->res != -ENOBUFS && cqe->res != -EINTR && cqe->res != -ECANCELED)
			s->handler->ended(s->arg, cqe->res < 0 ? cqe->res : 0);
		return;
	}
	out = io_uring_recvmsg_validate(st->memory + id * BUFFER_SIZE, cqe->res, &st->template);
	if (s->closed)
		;
	else if (!out)
		s->handler->ended(s->arg, -EPROTO);
	else if (out->payloadlen == 0)
		s->handler->ended(s->arg, 0);
	else
		s->handler->received(s->arg, io_uring_recvmsg_payload(out, &st->template),
				     io_uring_recvmsg_payload_length(out, cqe->res, &st->template),
				     out->flags & (MSG_TRUNC | MSG_CTRUNC));
	return_buffer(st, id);
}

static void accepted(struct source *s, int res)
{
	if (s->closed)
		fd_close(res);
	else if (res >= 0 || (res != -EINTR && res != -ECONNABORTED && res != -EAGAIN && res != -ECANCELED))
		s->accepted(s->arg, res);
}

/* True for an accept that ended because there is no descriptor left: doing it again at once would spin. */
static bool must_pause(const struct source *s, int res)
{
	return s->kind == SOURCE_ACCEPT && res < 0 && res != -EINTR && res != -ECONNABORTED && res != -EAGAIN;
}

static void event(struct loop *l, struct source *s, struct io_uring_cqe *cqe)
{
	int res = cqe->res;
	bool more = cqe->flags & IORING_CQE_F_MORE;

	if (!more) {
		s->inflight--;
		s->armed = false;
	}
	if (s->kind == SOURCE_MESSAGES)
		received(l->state, s, cqe);
	else if (s->kind == SOURCE_ACCEPT)
		accepted(s, res);
	else if (!s->closed && res >= 0)
		s->ready(s->arg);
	if (!more && !s->closed && !s->armed && !l->quiet && !must_pause(s, res))
		uring_arm(l, s);
}

static void complete(struct loop *l, struct io_uring_cqe *cqe)
{
	uintptr_t data = (uintptr_t)io_uring_cqe_get_data(cqe);
	struct source *s = (struct source *)(data & ~OP_MASK);

	if (!s) {
		if (cqe->flags & IORING_CQE_F_BUFFER)
			return_buffer(l->state, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
		return;
	}
	if ((data & OP_MASK) == OP_SEND) {
		s->inflight--;
		source_packet_done(s, cqe->res < 0 ? cqe->res : 0);
		return;
	}
	event(l, s, cqe);
}

static int uring_wait(struct loop *l, int64_t timeout)
{
	struct uring_state *st = l->state;
	struct __kernel_timespec ts = { .tv_sec = timeout / NSEC_PER_SEC, .tv_nsec = timeout % NSEC_PER_SEC };
	struct io_uring_cqe *cqe;
	unsigned n;
	int r;

	if (timeout < 0)
		r = io_uring_submit_and_wait(&st->ring, 1);
	else
		r = io_uring_submit_and_wait_timeout(&st->ring, &cqe, 1, &ts, NULL);
	if (r < 0 && r != -ETIME && r != -EINTR)
		return r;
	/* Those that are there now, and none that come meanwhile: see loop_epoch(). */
	l->epoch++;
	for (n = st->turn = io_uring_cq_ready(&st->ring); n > 0 && io_uring_peek_cqe(&st->ring, &cqe) == 0; n--) {
		struct io_uring_cqe copy = *cqe;

		io_uring_cqe_seen(&st->ring, cqe);
		complete(l, &copy);
	}
	return 0;
}

const struct loop_backend loop_uring = {
	.name = "io_uring",
	.init = uring_init,
	.deinit = uring_deinit,
	.arm = uring_arm,
	.send = uring_send,
	.disarm = uring_disarm,
	.pause = uring_pause,
	.wait = uring_wait,
};
