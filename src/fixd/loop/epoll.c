/* SPDX-License-Identifier: MIT */
/* The loop on epoll: level-triggered; what io_uring does in the kernel is done here by non-blocking calls. */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fixd/loop/backend.h"

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

static int epoll_control(struct loop *l, struct source *s, int op, uint32_t events)
{
	struct epoll_state *st = l->state;
	struct epoll_event e = { .events = events, .data.ptr = s };

	return epoll_ctl(st->fd, op, s->fd, &e) < 0 ? -errno : 0;
}

static uint32_t epoll_wanted(const struct loop *l, const struct source *s)
{
	return (l->quiet || s->paused ? 0 : EPOLLIN) | (s->sending ? EPOLLOUT : 0);
}

static int epoll_arm(struct loop *l, struct source *s)
{
	int r = source_set_nonblock(s);

	if (r == 0)
		r = epoll_control(l, s, EPOLL_CTL_ADD, epoll_wanted(l, s));
	/* It was paused. */
	if (r == -EEXIST)
		r = epoll_control(l, s, EPOLL_CTL_MOD, epoll_wanted(l, s));
	s->armed = r == 0;
	return r;
}

static void epoll_disarm(struct loop *l, struct source *s)
{
	int r = epoll_control(l, s, EPOLL_CTL_DEL, 0);

	/* A child that was just forked may hold the file open for a moment: events that name the source may still come. */
	if (r < 0 && r != -ENOENT)
		s->inflight++;
	s->armed = false;
	if (s->sending) {
		s->sending = false;
		source_packet_done(s, -ECANCELED);
	}
}

/* What cannot be taken out is told of, and passed over. */
static void epoll_pause(struct loop *l, struct source *s)
{
	(void)epoll_control(l, s, EPOLL_CTL_MOD, epoll_wanted(l, s));
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
	int r;

	packet_to_msghdr(p, &msg, &iov, space.bytes);
	n = sendmsg(s->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n >= 0 || !is_passing_for_packet(-errno)) {
		source_packet_done(s, n < 0 ? -errno : 0);
		return;
	}
	r = errno == EAGAIN ? epoll_control(l, s, EPOLL_CTL_MOD, epoll_wanted(l, s)) : -errno;
	/* Not watched at all: it was refused before, or is paused. */
	if (r == -ENOENT)
		r = epoll_control(l, s, EPOLL_CTL_ADD, epoll_wanted(l, s));
	if (r < 0)
		source_send_refused(s, r);
}

static void dispatch(struct loop *l, struct source *s, uint32_t events)
{
	if ((events & EPOLLOUT) && s->sending) {
		(void)epoll_control(l, s, EPOLL_CTL_MOD, epoll_wanted(l, s) & ~(uint32_t)EPOLLOUT);
		epoll_send(l, s);
	}
	if (!s->closed && !s->paused && !l->quiet && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		source_serve(s);
}

static int epoll_wait_events(struct loop *l, int64_t timeout)
{
	struct epoll_state *st = l->state;
	struct epoll_event events[64];
	/* Rounded up, so that a timer is due when the wait ends. */
	int ms = timeout < 0 ? -1 : timeout > 3600 * NSEC_PER_SEC ? 3600000 : (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	int n = epoll_wait(st->fd, events, ELEMENTSOF(events), ms);

	l->turn_began = clock_now();
	if (n < 0)
		return is_passing(-errno) ? 0 : -errno;
	for (int i = 0; i < n; i++) {
		struct source *s = events[i].data.ptr;

		/* Closed sources live until the end of the batch. What is left over is told again. */
		l->last = i == n - 1;
		if (!s->closed)
			dispatch(l, s, events[i].events);
		if (clock_now() - l->turn_began >= TURN)
			break;
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
