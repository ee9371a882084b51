/* SPDX-License-Identifier: MIT */
/*
 * What clients have sent and nobody has looked at yet.
 *
 * Promises: whoever asks for much waits for itself. Users have their turns by the time that their requests have taken, the connections of
 * a user one after the other, and a request that takes long is handled in slices; one turn of the loop handles requests for a fifth of a
 * millisecond. The messages of one connection are handled in their order, one after the other is done. What more than so many
 * of them wait for stays in the socket, so that memory is bounded. What a client sent that is gone is not handled.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/link.h"
#include "fixd/loop/loop.h"

struct conn;
struct server;
struct task;
struct text;

/* Of the daemon: the users whose clients wait. */
struct inboxes {
	struct deferred work;
	void (*dispatch)(struct conn *c, const void *data, size_t size); /* a message; the connection may be gone afterwards */
	bool (*is_note)(const void *data, size_t size);			 /* it has no answer */
	struct link lanes;
	struct link parked;   /* inbox::in_lane of connections that wait for something else than their turn */
	struct timer again;   /* when they are looked at */
	struct conn *current; /* whose message is handled; NULL once that has been dropped */
	int64_t floor;	      /* what the lane that was last chosen had spent: nobody saves up for later */
};

/* Of a user: its connections that have messages, and the time (ns) that was spent for them. */
struct lane {
	struct link link; /* inboxes::lanes */
	struct link conns;
	int64_t spent;
};

/* Of a connection. */
struct inbox {
	struct link in_lane; /* lane::conns */
	struct link messages;
	size_t n, bytes;
	struct task *task; /* what its last message has begun, or NULL */
};

void inboxes_init(struct inboxes *all, struct server *server);
void inboxes_deinit(struct inboxes *all);
void inbox_init(struct inbox *i);

bool inbox_is_empty(const struct inbox *i);

/*
 * A message has come from the loop, at an address that is a multiple of eight. It is handled at once if nothing else waits, after the
 * callbacks of this turn, or later. The connection may be gone afterwards.
 */
void inbox_take(struct conn *c, const void *data, size_t size);
/* The same, but not at once. */
void inbox_add(struct conn *c, const void *data, size_t size);
/* From a step: its task cannot go on now, and is asked again a little later. */
void inbox_park(struct conn *c);
/* The client has gone, or does not take answers any more. */
void inbox_clear(struct conn *c);

/*
 * Handles now what the connection has said before its next request: messages that have no answer. Whoever sent one and then tells
 * somebody else may rely on it, though the two connections may be read in any order.
 */
void inbox_hear(struct conn *c);

/* What goes to another process: the bytes of each message. */
void inbox_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg);
