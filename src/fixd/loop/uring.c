/* SPDX-License-Identifier: MIT */
/*
 * The loop on io_uring: multishot poll and recvmsg (received into one shared ring of buffers), sends, and waiting, all
 * through one ring and usually one system call per turn. A completion names its source by pointer and its operation in the
 * low bits; a source lives until its last completion has come.
 *
 * The kernel may refuse to take entries for want of memory, or because completions have to be taken first: then those are taken and
 * it is asked again. A ring that goes on refusing, or fails in another way, is lost: it takes every entry and forgets it, and wait()
 * says so, for epoll to take its place.
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
	struct msghdr template;	     /* of recvmsg: no name, no control data */
	unsigned turn;		     /* completions of this turn */
	int lost;		     /* -errno: what the ring has failed with */
	unsigned refusals;	     /* in a row */
	struct io_uring_sqe nowhere; /* for the entries of a lost one */
	struct io_uring_cqe *early;  /* completions that were taken outside of a turn */
	size_t n_early, room_early;
};

/* So often in a row, with a moment between, the kernel may refuse. */
#define REFUSALS_MAX 200
#define MOMENT_MS 10

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

/* Makes room for new ones, without calling anybody back. */
static void take_early(struct uring_state *st)
{
	struct io_uring_cqe *cqe;

	while (io_uring_peek_cqe(&st->ring, &cqe) == 0) {
		if (st->n_early == st->room_early) {
			st->room_early = st->room_early ? 2 * st->room_early : 64;
			st->early = xrealloc(st->early, st->room_early * sizeof *st->early);
		}
		st->early[st->n_early++] = *cqe;
		io_uring_cqe_seen(&st->ring, cqe);
	}
}

/* After a call that the kernel has refused. Whether it is to be made again. */
static bool is_worth_another_try(struct uring_state *st, int err)
{
	struct pollfd p = { .fd = st->ring.ring_fd, .events = POLLIN };

	if (is_passing(err) && ++st->refusals < REFUSALS_MAX) {
		if (err != -EINTR)
			poll(&p, 1, MOMENT_MS);
		return true;
	}
	st->lost = err;
	return false;
}

static void uring_submit(struct uring_state *st)
{
	int r;

	while (!st->lost && (r = io_uring_submit(&st->ring)) < 0 && is_worth_another_try(st, r))
		take_early(st);
	st->refusals = 0;
}

static struct io_uring_sqe *next_sqe(struct uring_state *st)
{
	struct io_uring_sqe *sqe = st->lost ? &st->nowhere : io_uring_get_sqe(&st->ring);

	if (!sqe) {
		uring_submit(st);
		sqe = st->lost ? &st->nowhere : io_uring_get_sqe(&st->ring);
	}
	return sqe ? sqe : &st->nowhere;
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

	for (size_t i = 0; (r == -EINVAL || r == -EPERM) && i < ELEMENTSOF(flags); i++)
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

static char *uring_explain(int err)
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
	free(st->early);
	free(st);
}

static int uring_init(struct loop *l, char **reason)
{
	struct uring_state *st = xcalloc(1, sizeof *st);
	int r = setup_ring(st);

	if (r < 0) {
		*reason = uring_explain(r);
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
		*reason = uring_explain(r);
		uring_deinit(l);
	}
	return r;
}

static int uring_arm(struct loop *l, struct source *s)
{
	struct uring_state *st = l->state;
	struct io_uring_sqe *sqe;

	/* Connections are taken by plain calls, some at a time: a storm of them must not fill the ring. */
	if (s->kind == SOURCE_ACCEPT) {
		int r = source_set_nonblock(s);

		if (r < 0)
			return r;
	}
	s->armed = true;
	s->inflight++;
	if (s->kind == SOURCE_MESSAGES) {
		arm_receive(st, s->fd, s);
		return 0;
	}
	sqe = next_sqe(st);
	if (s->kind == SOURCE_ACCEPT)
		io_uring_prep_poll_add(sqe, s->fd, POLLIN);
	else
		io_uring_prep_poll_multishot(sqe, s->fd, POLLIN);
	io_uring_sqe_set_data(sqe, s);
	return 0;
}

static bool send_now(struct source *s, const struct msghdr *msg)
{
	ssize_t n = sendmsg(s->fd, msg, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && is_passing_for_packet(-errno))
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
	packet_to_msghdr(link_entry(s->packets.next, struct packet, link), &sending->msg, &sending->iov, sending->control.bytes);
	if ((st->turn <= FEW || st->lost) && send_now(s, &sending->msg))
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
	uring_submit(st);
}

static void uring_pause(struct loop *l, struct source *s)
{
	cancel(l, s, OP_EVENT);
}

/* A completion without a buffer. False: the kernel refuses to receive, and the source is to be armed again. */
static bool received_nothing(struct source *s, int res)
{
	if (s->closed || res == -ENOBUFS || res == -EINTR || res == -ECANCELED)
		return true;
	if (is_passing(res))
		return false;
	if (res == 0)
		source_at_end(s);
	else
		s->handler->ended(s->arg, res);
	return true;
}

static bool received(struct uring_state *st, struct source *s, const struct io_uring_cqe *cqe)
{
	struct io_uring_recvmsg_out *out;
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;

	if (!(cqe->flags & IORING_CQE_F_BUFFER))
		return received_nothing(s, cqe->res);
	out = io_uring_recvmsg_validate(st->memory + id * BUFFER_SIZE, cqe->res, &st->template);
	if (s->closed)
		;
	else if (!out)
		s->handler->ended(s->arg, -EPROTO);
	else if (out->payloadlen == 0)
		source_at_end(s);
	else
		s->handler->received(s->arg, io_uring_recvmsg_payload(out, &st->template),
				     io_uring_recvmsg_payload_length(out, cqe->res, &st->template), out->flags & (MSG_TRUNC | MSG_CTRUNC));
	return_buffer(st, id);
	return true;
}

static void event(struct loop *l, struct source *s, const struct io_uring_cqe *cqe)
{
	bool more = cqe->flags & IORING_CQE_F_MORE, goes_on = true;

	if (!more) {
		s->inflight--;
		s->armed = false;
	}
	if (s->kind == SOURCE_MESSAGES)
		goes_on = received(l->state, s, cqe);
	else if (cqe->res < 0)
		goes_on = cqe->res == -ECANCELED;
	else if (!s->closed && !s->paused && !l->quiet)
		source_serve(s);
	if (more || s->closed || s->armed || s->paused || l->quiet)
		return;
	if (goes_on)
		uring_arm(l, s);
	else
		source_refused(s, cqe->res);
}

static void sent(struct source *s, int res)
{
	s->inflight--;
	/* For want of memory, or because too many descriptors lie unread somewhere. */
	if (!s->closed && is_passing_for_packet(res))
		source_send_refused(s, res);
	else
		source_packet_done(s, res < 0 ? res : 0);
}

static void uring_complete(struct loop *l, const struct io_uring_cqe *cqe)
{
	uintptr_t data = (uintptr_t)io_uring_cqe_get_data(cqe);
	struct source *s = (struct source *)(data & ~OP_MASK);

	if (!s && (cqe->flags & IORING_CQE_F_BUFFER))
		return_buffer(l->state, cqe->flags >> IORING_CQE_BUFFER_SHIFT);
	else if (s && (data & OP_MASK) == OP_SEND)
		sent(s, cqe->res);
	else if (s)
		event(l, s, cqe);
}

/* Not to wait is not to wait for no time, which would have the kernel set up a timer that is due at once. */
static int submit_and_wait(struct io_uring *ring, int64_t timeout)
{
	struct __kernel_timespec ts = { .tv_sec = timeout / NSEC_PER_SEC, .tv_nsec = timeout % NSEC_PER_SEC };
	struct io_uring_cqe *cqe;

	if (timeout < 0)
		return io_uring_submit_and_wait(ring, 1);
	if (timeout == 0)
		return io_uring_submit_and_get_events(ring);
	return io_uring_submit_and_wait_timeout(ring, &cqe, 1, &ts, NULL);
}

static int uring_enter(struct uring_state *st, int64_t timeout)
{
	int r = submit_and_wait(&st->ring, timeout);

	if (r >= 0 || r == -ETIME)
		st->refusals = 0;
	else
		is_worth_another_try(st, r);
	return 0;
}

/* Those that are there now, and none that come meanwhile; the rest when everything else has had its turn. */
static void complete_all(struct loop *l, const struct io_uring_cqe *early, size_t n_early)
{
	struct uring_state *st = l->state;
	struct io_uring_cqe *cqe;

	l->last = false;
	for (size_t k = 0; k < n_early; k++)
		uring_complete(l, &early[k]);
	for (unsigned n = st->turn; n > 0 && io_uring_peek_cqe(&st->ring, &cqe) == 0; n--) {
		struct io_uring_cqe copy = *cqe;

		io_uring_cqe_seen(&st->ring, cqe);
		l->last = n == 1;
		uring_complete(l, &copy);
		if (n > 1 && clock_now() - l->turn_began >= TURN) {
			l->more = true;
			break;
		}
	}
}

static int uring_wait(struct loop *l, int64_t timeout)
{
	struct uring_state *st = l->state;
	struct io_uring_cqe *early = st->early;
	size_t n_early = st->n_early;

	st->early = NULL;
	st->n_early = st->room_early = 0;
	if (!st->lost)
		uring_enter(st, n_early ? 0 : timeout);
	l->turn_began = clock_now();
	st->turn = io_uring_cq_ready(&st->ring);
	complete_all(l, early, n_early);
	free(early);
	/* Only when it has told all that it had to tell. */
	return st->lost && !l->more && !st->n_early ? st->lost : 0;
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
