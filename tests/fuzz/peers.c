/* SPDX-License-Identifier: MIT */
#include "peers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/link.h"
#include "fixd/loop/backend.h"
#include "wire/wire.h"

#define PACKETS_PER_TURN 16
#define FDS_MAX 4096

/* Said, and not yet heard. */
struct said {
	struct link link; /* peer::said */
	size_t size;
	_Alignas(8) char data[];
};

struct peer {
	struct link link; /* `peers`, or `heard` in this turn */
	int fd;		  /* of its source */
	struct source *source;
	bool left; /* and so has it; the daemon hears that as often as it listens */
	struct link said;
};

static struct link peers = LINK_INIT(peers), heard = LINK_INIT(heard);
static struct peer *by_fd[FDS_MAX]; /* which the daemon has not closed */
static size_t n_said;

struct peer *peer_new(int fd)
{
	struct peer *p = xcalloc(1, sizeof *p);

	if (fd >= FDS_MAX)
		abort();
	by_fd[fd] = p;
	p->fd = fd;
	link_init(&p->said);
	link_insert(&peers, &p->link);
	return p;
}

static struct peer *peer_of(const struct source *s)
{
	return s->kind == SOURCE_MESSAGES && s->fd >= 0 && s->fd < FDS_MAX ? by_fd[s->fd] : NULL;
}

static struct said *next_said(struct peer *p)
{
	struct said *s = link_entry(p->said.next, struct said, link);

	link_remove(&s->link);
	n_said--;
	return s;
}

static void peer_free(struct peer *p)
{
	while (!link_empty(&p->said))
		free(next_said(p));
	if (by_fd[p->fd] == p)
		by_fd[p->fd] = NULL;
	link_remove(&p->link);
	free(p);
}

bool peer_is_there(const struct peer *p)
{
	return p->source;
}

void peer_say(struct peer *p, const void *data, size_t size)
{
	struct said *s;

	if (!p->source || size == 0)
		return;
	s = xcalloc(1, sizeof *s + size);
	s->size = size;
	memcpy(s->data, data, size);
	link_insert(&p->said, &s->link);
	n_said++;
}

/* An answer may lead to the next one, and to the end of it. */
void peer_read(struct peer *p, void (*fn)(void *arg, const struct packet *packet), void *arg)
{
	while (p->source && p->source->sending) {
		fn(arg, link_entry(p->source->packets.next, struct packet, link));
		source_packet_done(p->source, 0);
	}
}

struct peer *peer_leave(struct peer *p)
{
	if (!p)
		return NULL;
	p->left = true;
	if (!p->source)
		peer_free(p);
	return NULL;
}

static int arm(struct loop *l, struct source *s)
{
	struct peer *p = peer_of(s);

	if (!p)
		return loop_epoll.arm(l, s);
	p->source = s;
	s->armed = true;
	return 0;
}

/* Nothing arrives at one that has left; others read it later. */
static void start_to_send(struct loop *l, struct source *s)
{
	struct peer *p = peer_of(s);

	if (!p)
		loop_epoll.send(l, s);
	else if (p->left)
		source_packet_done(s, -EPIPE);
}

static void disarm(struct loop *l, struct source *s)
{
	struct peer *p = peer_of(s);

	if (!p) {
		loop_epoll.disarm(l, s);
		return;
	}
	p->source = NULL;
	by_fd[p->fd] = NULL;
	if (p->left)
		peer_free(p);
	s->armed = false;
	if (s->sending) {
		s->sending = false;
		source_packet_done(s, -ECANCELED);
	}
}

static void pause_source(struct loop *l, struct source *s)
{
	if (peer_of(s))
		s->armed = false;
	else
		loop_epoll.pause(l, s);
}

static bool listens(const struct peer *p, const struct loop *l)
{
	return p->source && p->source->armed && !p->source->paused && !l->quiet;
}

/* Everything may end in a callback, also this one. */
static void hear(struct loop *l, struct source *s)
{
	struct peer *p;

	for (int n = 0; n < PACKETS_PER_TURN && (p = peer_of(s)) && listens(p, l); n++) {
		if (!link_empty(&p->said)) {
			struct said *m = next_said(p);
			bool cut = m->size > WIRE_MESSAGE_MAX;

			l->last = n_said == 0;
			s->handler->received(s->arg, m->data, cut ? WIRE_MESSAGE_MAX : m->size, cut);
			free(m);
		} else if (p->left) {
			s->handler->ended(s->arg, 0);
		} else {
			return;
		}
	}
}

/* Each once, though the list may change with every one. */
static int wait_for_events(struct loop *l, int64_t timeout)
{
	int r = loop_epoll.wait(l, n_said ? 0 : timeout);

	while (!link_empty(&peers)) {
		struct peer *p = link_entry(peers.next, struct peer, link);

		link_remove(&p->link);
		link_insert(&heard, &p->link);
		if (p->source)
			hear(l, p->source);
	}
	link_insert(&heard, &peers);
	link_remove(&heard);
	return r;
}

void peers_begin(struct loop *l)
{
	static struct loop_backend around;

	around = loop_epoll;
	around.arm = arm;
	around.send = start_to_send;
	around.disarm = disarm;
	around.pause = pause_source;
	around.wait = wait_for_events;
	l->backend = &around;
}
