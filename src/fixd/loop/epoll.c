/* SPDX-License-Identifier: MIT */
/* The loop on epoll: level-triggered; what io_uring does in the kernel is done here by non-blocking calls. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fixd/loop/backend.h"
#include "wire/wire.h"

struct epoll_state {
	int fd;
};

static int epoll_init(struct loop *l, char **reason)
{
	struct epoll_state *st = xcalloc(1, sizeof *st);

	(void)reason;
	st->fd = epoll_create1(EPOLL_CLOEXEC);
	if (st->fd < 0) {
		free(st);
		return -errno;
	}
	l->state = st;
	return 0;
}

static void epoll_deinit(struct loop *l)
{
	struct epoll_state *st = l->state;

	fd_close(st->fd);
	free(st);
}

static int control(struct loop *l, struct source *s, int op, uint32_t events)
{
	struct epoll_state *st = l->state;
	struct epoll_event e = { .events = events, .data.ptr = s };

	return epoll_ctl(st->fd, op, s->fd, &e) < 0 ? -errno : 0;
}

static uint32_t wanted(const struct loop *l, const struct source *s)
{
	return (l->quiet ? 0 : EPOLLIN) | (s->sending ? EPOLLOUT : 0);
}

static int epoll_arm(struct loop *l, struct source *s)
{
	int r = fd_set_nonblock(s->fd, true);

	if (r == 0)
		r = control(l, s, EPOLL_CTL_ADD, wanted(l, s));
	/* It was paused. */
	if (r == -EEXIST)
		r = control(l, s, EPOLL_CTL_MOD, wanted(l, s));
	s->armed = r == 0;
	return r;
}

static void epoll_disarm(struct loop *l, struct source *s)
{
	if (s->armed)
		control(l, s, EPOLL_CTL_DEL, 0);
	s->armed = false;
	if (s->sending) {
		s->sending = false;
		source_packet_done(s, -ECANCELED);
	}
}

static void epoll_pause(struct loop *l, struct source *s)
{
	control(l, s, EPOLL_CTL_MOD, wanted(l, s));
	s->armed = false;
}

/* Tries at once; what the socket does not take waits for EPOLLOUT. */
static void epoll_send(struct loop *l, struct source *s)
{
	struct packet *p = link_entry(s->packets.next, struct packet, link);
	union {
		struct cmsghdr align;
		char bytes[PACKET_CONTROL_SIZE];
	} space;
	struct msghdr msg;
	struct iovec iov;
	ssize_t n;

	packet_to_msghdr(p, &msg, &iov, space.bytes);
	do {
		n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		control(l, s, EPOLL_CTL_MOD, wanted(l, s));
		return;
	}
	source_packet_done(s, n < 0 ? -errno : 0);
}

static void accept_all(struct loop *l, struct source *s)
{
	while (!s->closed && s->armed) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			return;
		if (fd < 0) {
			fd = -errno;
			control(l, s, EPOLL_CTL_DEL, 0);
			s->armed = false;
		}
		s->accepted(s->arg, fd);
	}
}

static void receive_all(struct source *s)
{
	static char buffer[WIRE_MESSAGE_MAX];

	/* Bounded: one busy client does not keep the others waiting. */
	for (int i = 0; i < 16 && !s->closed; i++) {
		struct iovec iov = { buffer, sizeof buffer };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
		ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		s->loop->epoch++;
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			s->handler->ended(s->arg, n < 0 ? -errno : 0);
		else
			s->handler->received(s->arg, buffer, (size_t)n, msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
	}
}

static void dispatch(struct loop *l, struct source *s, uint32_t events)
{
	if ((events & EPOLLOUT) && s->sending) {
		control(l, s, EPOLL_CTL_MOD, wanted(l, s) & ~(uint32_t)EPOLLOUT);
		epoll_send(l, s);
	}
	if (s->closed || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (s->kind == SOURCE_WATCH)
		s->ready(s->arg);
	else if (s->kind == SOURCE_ACCEPT)
		accept_all(l, s);
	else
		receive_all(s);
}

static int epoll_wait_events(struct loop *l, int64_t timeout)
{
	struct epoll_state *st = l->state;
	struct epoll_event events[64];
	/* Rounded up, so that a timer is due when the wait ends. */
	int ms = timeout < 0 ? -1 : timeout > 3600 * NSEC_PER_SEC ? 3600000 : (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	int n = epoll_wait(st->fd, events, ELEMENTSOF(events), ms);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct source *s = events[i].data.ptr;

		/* Closed sources live until the end of the batch. */
		if (!s->closed)
			dispatch(l, s, events[i].events);
	}
	return 0;
}

const struct loop_backend loop_epoll = {
	.name = "epoll",
	.init = epoll_init,
	.deinit = epoll_deinit,
	.arm = epoll_arm,
	.send = epoll_send,
	.disarm = epoll_disarm,
	.pause = epoll_pause,
	.wait = epoll_wait_events,
};
