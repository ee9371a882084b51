/* SPDX-License-Identifier: MIT */
#include "fixd/loop/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "fixd/loop/backend.h"
#include "wire/wire.h"

/* How often what the kernel has refused is tried again. */
#define TRY_AGAIN (50 * NSEC_PER_MSEC)
/* Connections and packets that one source gets in one turn. */
#define ACCEPTS_PER_TURN 4
#define PACKETS_PER_TURN 16

int loop_new(struct loop **out, enum io_kind want, char **reason)
{
	struct loop *l = xcalloc(1, sizeof *l);
	int r = -ENOSYS;

	link_init(&l->sources);
	link_init(&l->closed);
	link_init(&l->refused);
	link_init(&l->deferred);
	*reason = NULL;
	if (want != IO_EPOLL) {
		l->backend = &loop_uring;
		r = l->backend->init(l, reason);
	}
	if (r < 0 && want != IO_URING) {
		l->backend = &loop_epoll;
		l->reason = *reason;
		*reason = NULL;
		r = l->backend->init(l, NULL);
	}
	if (r < 0) {
		free(l->reason);
		free(l);
		return r;
	}
	*out = l;
	return 0;
}

static void free_source(struct source *s)
{
	link_remove(&s->link);
	link_remove(&s->refused);
	free(s->backend);
	free(s);
}

static void loop_bury(struct loop *l)
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
	loop_bury(l);
	/* The kernel closes a ring some time after its process: peers must see their connections end before. */
	for (int64_t end = clock_now() + NSEC_PER_SEC; !link_empty(&l->closed) && clock_now() < end; loop_bury(l)) {
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
	while (!link_empty(&l->deferred))
		link_remove(l->deferred.next);
	free(l->reason);
	free(l);
	return NULL;
}

const char *loop_io_name(const struct loop *l)
{
	return l->backend->name;
}

const char *loop_io_reason(const struct loop *l)
{
	return l->reason;
}

int64_t loop_turn_began(const struct loop *l)
{
	return l->turn_began;
}

int64_t loop_longest_turn(const struct loop *l)
{
	return l->longest_turn;
}

static int64_t next_timeout(const struct loop *l)
{
	int64_t deadline, left = -1;

	if (l->more || !link_empty(&l->deferred))
		return 0;
	if (timers_next(&l->timers, &deadline)) {
		left = deadline - l->turn_ended;
		left = left > 0 ? left : 0;
	}
	return !link_empty(&l->refused) && (left < 0 || left > TRY_AGAIN) ? TRY_AGAIN : left;
}

int source_set_nonblock(struct source *s)
{
	int r = s->nonblocking ? 0 : fd_set_nonblock(s->fd, true);

	s->nonblocking = r == 0;
	return r;
}

void source_refused(struct source *s, int err)
{
	struct loop *l = s->loop;

	if (!l->warned)
		log_warn(err,
			 "the kernel refuses to watch a descriptor: it is looked at every now and then, and the kernel is asked again");
	l->warned = true;
	if (link_empty(&s->refused))
		link_insert(&l->refused, &s->refused);
}

void source_send_refused(struct source *s, int err)
{
	s->resend = true;
	source_refused(s, err);
}

bool is_passing_for_packet(int err)
{
	return is_passing(err) || err == -ETOOMANYREFS;
}

static void arm(struct source *s)
{
	int r = s->loop->backend->arm(s->loop, s);

	if (r < 0)
		source_refused(s, r);
}

static void try_again(struct source *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	link_remove(&s->refused);
	if (s->resend) {
		s->resend = false;
		s->loop->backend->send(s->loop, s);
	}
	if (s->closed || s->armed || s->paused || s->loop->quiet)
		return;
	arm(s);
	if (!s->armed && poll(&p, 1, 0) > 0)
		source_serve(s);
}

/* Those that are refused once more are at the end of the list, for the next time. */
static void try_refused(struct loop *l)
{
	struct link now;

	if (link_empty(&l->refused))
		return;
	link_init(&now);
	link_insert(&l->refused, &now);
	link_remove(&l->refused);
	while (!link_empty(&now))
		try_again(link_entry(now.next, struct source, refused));
}

/* A packet that the ring had is lost with it: whether it has left nobody knows, so its connection ends. */
static void lose_packets(struct link *sources)
{
	link_for_each(p, sources) {
		struct source *s = link_entry(p, struct source, link);

		s->armed = false;
		s->inflight = 0;
		s->lost = s->sending;
	}
	for (struct link *p = sources->next; p != sources;) {
		struct source *s = link_entry(p, struct source, link);

		p = p->next;
		if (!s->lost)
			continue;
		s->lost = false;
		source_packet_done(s, -EIO);
		p = sources->next; /* the list may have changed */
	}
}

/* The ring has failed for good. 0, or -errno: there is no other way. */
static int go_on_with_epoll(struct loop *l, int err)
{
	int r;

	if (l->backend == &loop_epoll)
		return err;
	log_warn(err, "io_uring has failed: going on with epoll");
	l->reason = xasprintf("io_uring has failed: %s", strerror(-err));
	l->backend->deinit(l);
	l->backend = &loop_epoll;
	r = l->backend->init(l, NULL);
	if (r < 0)
		return r;
	lose_packets(&l->sources);
	lose_packets(&l->closed);
	link_for_each(p, &l->sources) {
		struct source *s = link_entry(p, struct source, link);

		if (!s->armed && !s->paused && !l->quiet)
			arm(s);
	}
	return 0;
}

static int loop_turn(struct loop *l, int64_t timeout)
{
	int r;

	l->more = false;
	r = l->backend->wait(l, timeout);
	if (r < 0)
		return go_on_with_epoll(l, r);
	timers_run(&l->timers, l->turn_began, TURN);
	try_refused(l);
	loop_begin_epoch(l);
	deferred_run(l);
	if (!link_empty(&l->closed))
		loop_bury(l);
	l->turn_ended = clock_now();
	if (l->turn_ended - l->turn_began > l->longest_turn)
		l->longest_turn = l->turn_ended - l->turn_began;
	return 0;
}

int loop_run(struct loop *l)
{
	int r = 0;

	l->turn_ended = clock_now();
	while (!l->stopping && r == 0)
		r = loop_turn(l, next_timeout(l));
	return r;
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
	while (!is_quiet(l) && clock_now() < end && r == 0) {
		r = l->backend->wait(l, 10 * NSEC_PER_MSEC);
		if (r < 0)
			r = go_on_with_epoll(l, r);
		try_refused(l);
		loop_bury(l);
	}
	return r;
}

void loop_resume(struct loop *l)
{
	l->quiet = false;
	link_for_each(p, &l->sources) {
		struct source *s = link_entry(p, struct source, link);

		if (!s->paused)
			source_resume(s);
	}
}

uint64_t loop_epoch(const struct loop *l)
{
	return l->epoch;
}

void loop_begin_epoch(struct loop *l)
{
	l->epoch++;
}

bool loop_is_last(const struct loop *l)
{
	return l->last;
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
	link_init(&s->refused);
	link_insert(&l->sources, &s->link);
	return s;
}

struct source *loop_watch(struct loop *l, int fd, void (*fn)(void *arg), void *arg)
{
	struct source *s = add_source(l, SOURCE_WATCH, fd, arg);

	s->ready = fn;
	arm(s);
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
	arm(s);
	return s;
}

void source_resume(struct source *s)
{
	s->paused = false;
	if (!s->armed && !s->closed && !s->loop->quiet)
		arm(s);
}

void source_pause(struct source *s)
{
	if (s->paused || s->closed)
		return;
	s->paused = true;
	if (s->armed)
		s->loop->backend->pause(s->loop, s);
}

void source_again(struct source *s)
{
	if (s->paused || s->closed)
		return;
	source_pause(s);
	source_resume(s);
}

static void accept_some(struct source *s)
{
	for (int i = 0; i < ACCEPTS_PER_TURN && !s->closed && !s->paused; i++) {
		int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			return;
		if (fd < 0) {
			fd = -errno;
			source_pause(s);
		}
		s->accepted(s->arg, fd);
	}
}

/* -errno, or how many bytes of which packet. */
static ssize_t receive_one(const struct source *s, char **data, int *flags)
{
	static _Alignas(8) char buffer[WIRE_MESSAGE_MAX];
	struct iovec iov = { buffer, sizeof buffer };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(s->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*data = buffer;
	*flags = msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
	return n < 0 ? -errno : n;
}

void source_at_end(struct source *s)
{
	char *data;
	int flags;
	ssize_t n = receive_one(s, &data, &flags);

	if (n > 0)
		s->handler->received(s->arg, data, (size_t)n, flags);
	else
		s->handler->ended(s->arg, is_passing((int)n) ? 0 : (int)n);
}

static void receive_some(struct source *s)
{
	for (int i = 0; i < PACKETS_PER_TURN && !s->closed && !s->paused; i++) {
		char *data;
		int flags;
		ssize_t n = receive_one(s, &data, &flags);

		if (is_passing((int)n))
			return;
		if (n > 0)
			s->handler->received(s->arg, data, (size_t)n, flags);
		else if (n < 0)
			s->handler->ended(s->arg, (int)n);
		else
			source_at_end(s);
	}
}

void source_serve(struct source *s)
{
	if (s->kind == SOURCE_WATCH)
		s->ready(s->arg);
	else if (s->kind == SOURCE_ACCEPT)
		accept_some(s);
	else
		receive_some(s);
}

struct source *loop_messages(struct loop *l, int fd, const struct message_handler *handler, void *arg)
{
	struct source *s = add_source(l, SOURCE_MESSAGES, fd, arg);

	s->handler = handler;
	arm(s);
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
	else if (err < 0)
		err = -ECANCELED;
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
	link_remove(&s->refused);
	if (s->resend)
		s->resend = s->sending = false;
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
