/* SPDX-License-Identifier: MIT */
#include "fixd/loop/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "fixd/loop/backend.h"

int loop_new(struct loop **out, enum io_kind want, char **reason)
{
	struct loop *l = xcalloc(1, sizeof *l);
	int r = -ENOSYS;

	link_init(&l->sources);
	link_init(&l->closed);
	*reason = NULL;
	if (want != IO_EPOLL) {
		l->backend = &loop_uring;
		r = l->backend->init(l, reason);
	}
	if (r < 0 && want != IO_URING) {
		l->backend = &loop_epoll;
		r = l->backend->init(l, NULL);
	}
	if (r < 0) {
		free(l);
		return r;
	}
	*out = l;
	return 0;
}

static void free_source(struct source *s)
{
	link_remove(&s->link);
	free(s->backend);
	free(s);
}

static void bury(struct loop *l)
{
	link_for_each_safe(p, &l->closed) {
		struct source *s = link_entry(p, struct source, link);

		if (s->inflight == 0)
			free_source(s);
	}
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	while (!link_empty(&l->sources))
		source_close(link_entry(l->sources.next, struct source, link));
	/* The kernel closes a ring some time after its process: peers must see their connections end before. */
	for (int64_t end = clock_now() + NSEC_PER_SEC; !link_empty(&l->closed) && clock_now() < end; bury(l)) {
		if (l->backend->wait(l, 10 * NSEC_PER_MSEC) < 0)
			break;
	}
	l->backend->deinit(l);
	link_for_each_safe(p, &l->closed) {
		struct source *s = link_entry(p, struct source, link);

		while (!link_empty(&s->packets))
			source_packet_done(s, -ECANCELED);
		free_source(s);
	}
	timers_deinit(&l->timers);
	free(l);
	return NULL;
}

const char *loop_io_name(const struct loop *l)
{
	return l->backend->name;
}

static int64_t next_timeout(const struct loop *l)
{
	int64_t deadline, left;

	if (!timers_next(&l->timers, &deadline))
		return -1;
	left = deadline - clock_now();
	return left > 0 ? left : 0;
}

int loop_run(struct loop *l)
{
	while (!l->stopping) {
		int r = l->backend->wait(l, next_timeout(l));

		if (r < 0 && r != -EINTR)
			return r;
		timers_run(&l->timers, clock_now());
		if (!link_empty(&l->closed))
			bury(l);
	}
	return 0;
}

static bool is_quiet(const struct loop *l)
{
	link_for_each(p, &l->sources) {
		const struct source *s = link_entry(p, struct source, link);

		if (s->armed || s->sending || !link_empty(&s->packets))
			return false;
	}
	return true;
}

int loop_quiesce(struct loop *l, int64_t timeout)
{
	int64_t end = clock_now() + timeout;
	int r = 0;

	l->quiet = true;
	link_for_each(p, &l->sources) {
		struct source *s = link_entry(p, struct source, link);

		if (s->armed)
			l->backend->pause(l, s);
	}
	while (!is_quiet(l) && clock_now() < end && (r >= 0 || r == -EINTR)) {
		r = l->backend->wait(l, 10 * NSEC_PER_MSEC);
		bury(l);
	}
	return r == -EINTR ? 0 : r;
}

void loop_resume(struct loop *l)
{
	l->quiet = false;
	link_for_each(p, &l->sources)
		source_resume(link_entry(p, struct source, link));
}

uint64_t loop_epoch(const struct loop *l)
{
	return l->epoch;
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}

static struct source *add_source(struct loop *l, enum source_kind_of kind, int fd, void *arg)
{
	struct source *s = xcalloc(1, sizeof *s);

	s->loop = l;
	s->kind = kind;
	s->fd = fd;
	s->arg = arg;
	link_init(&s->packets);
	link_insert(&l->sources, &s->link);
	return s;
}

struct source *loop_watch(struct loop *l, int fd, void (*fn)(void *arg), void *arg)
{
	struct source *s = add_source(l, SOURCE_WATCH, fd, arg);

	s->ready = fn;
	l->backend->arm(l, s);
	return s;
}

struct source *source_redirect(struct source *s, void (*fn)(void *arg), void *arg)
{
	if (!s)
		return NULL;
	s->ready = fn;
	s->arg = arg;
	return s;
}

struct source *loop_accept(struct loop *l, int fd, void (*fn)(void *arg, int fd), void *arg)
{
	struct source *s = add_source(l, SOURCE_ACCEPT, fd, arg);

	s->accepted = fn;
	l->backend->arm(l, s);
	return s;
}

void source_resume(struct source *s)
{
	if (!s->armed && !s->closed)
		s->loop->backend->arm(s->loop, s);
}

struct source *loop_messages(struct loop *l, int fd, const struct message_handler *handler, void *arg)
{
	struct source *s = add_source(l, SOURCE_MESSAGES, fd, arg);

	s->handler = handler;
	l->backend->arm(l, s);
	return s;
}

void source_send(struct source *s, struct packet *p)
{
	link_insert(&s->packets, &p->link);
	s->n_packets++;
	if (!s->sending) {
		s->sending = true;
		s->loop->backend->send(s->loop, s);
	}
}

size_t source_unsent(const struct source *s)
{
	return s->n_packets;
}

int source_fd(const struct source *s)
{
	return s ? s->fd : -1;
}

void source_packet_done(struct source *s, int err)
{
	struct packet *p = link_entry(s->packets.next, struct packet, link);

	link_remove(&p->link);
	s->n_packets--;
	s->sending = false;
	/* Who waits for a packet that cannot be sent must not wait on: the end comes the usual way. */
	if (err < 0 && !s->closed)
		shutdown(s->fd, SHUT_RDWR);
	p->done(p, err);
	if (s->closed || link_empty(&s->packets) || s->sending)
		return;
	s->sending = true;
	s->loop->backend->send(s->loop, s);
}

struct source *source_close(struct source *s)
{
	if (!s)
		return NULL;
	s->closed = true;
	s->loop->backend->disarm(s->loop, s);
	/* The packet on its way is finished by its completion; the others never start. */
	while (!link_empty(&s->packets) && !(s->sending && s->n_packets == 1)) {
		struct packet *p = link_entry(s->packets.prev, struct packet, link);

		link_remove(&p->link);
		s->n_packets--;
		p->done(p, -ECANCELED);
	}
	s->fd = fd_close(s->fd);
	link_remove(&s->link);
	link_insert(&s->loop->closed, &s->link);
	return NULL;
}

void packet_to_msghdr(const struct packet *p, struct msghdr *msg, struct iovec *iov, void *control)
{
	struct cmsghdr *c;

	*iov = (struct iovec){ p->data, p->size };
	*msg = (struct msghdr){ .msg_iov = iov, .msg_iovlen = 1 };
	if (p->n_fds == 0)
		return;
	msg->msg_control = control;
	msg->msg_controllen = CMSG_SPACE(sizeof(int) * p->n_fds);
	c = CMSG_FIRSTHDR(msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * p->n_fds);
	memcpy(CMSG_DATA(c), p->fds, sizeof(int) * p->n_fds);
}
