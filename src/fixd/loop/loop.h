/* SPDX-License-Identifier: MIT */
/*
 * The event loop: one thread, one io_uring, or epoll where the ring is refused. What a source promises is the same with both:
 *
 *  - callbacks come from loop_run() only, never from inside a loop_*() call; only a packet's done() may be called by
 *    source_send() or source_close() themselves;
 *  - after source_close() no callback of that source comes any more, also not from the batch at hand;
 *  - a source owns its descriptor and closes it;
 *  - packets go out in order; a packet and its descriptors stay valid until its done() was called, which happens exactly
 *    once, with -ECANCELED if the source was closed first;
 *  - what the kernel refuses for a moment is tried again: a source that cannot be watched is looked at every now and then until it
 *    can, and a ring that is lost for good is replaced by epoll;
 *  - a turn is bounded: however much there is to do, everything else has its turn after some milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/link.h"
#include "config/config.h"
#include "fixd/loop/deferred.h"
#include "fixd/loop/timer.h"

struct loop;
struct source;

/* IO_AUTO tries the ring first. -errno: no loop, and *reason (to be freed) may say why. */
int loop_new(struct loop **out, enum io_kind want, char **reason);
struct loop *loop_free(struct loop *l);
const char *loop_io_name(const struct loop *l);
/* Why the ring is not used, or NULL. */
const char *loop_io_reason(const struct loop *l);
/* When the turn at hand began: clock_now(), without asking again. */
int64_t loop_turn_began(const struct loop *l);
/* The longest time, in ns, that the callbacks of one turn have taken. */
int64_t loop_longest_turn(const struct loop *l);
int loop_run(struct loop *l);
void loop_stop(struct loop *l);

/*
 * Before the descriptors pass to another process: nothing is received any more, what was received has been handed out, and what
 * was to be sent has left, within `timeout` ns. Then loop_resume(), or nothing more. A source that still has unsent packets is
 * of no use to the other process.
 */
int loop_quiesce(struct loop *l, int64_t timeout);
void loop_resume(struct loop *l);

/*
 * The deferred calls of one turn are an epoch: every message that they look at had arrived before, so what was true then need not be
 * asked for each. Who looks at one before that begins an epoch of its own.
 */
uint64_t loop_epoch(const struct loop *l);
void loop_begin_epoch(struct loop *l);
/* Is what is handed out now the last of its turn? */
bool loop_is_last(const struct loop *l);

/* Calls `fn` whenever `fd` is readable or at its end; `fn` reads until -EAGAIN, or as much as one turn has time for. For inotify, signals, processes, pipes. */
struct source *loop_watch(struct loop *l, int fd, void (*fn)(void *arg), void *arg);

/* Calls `fn` with each new connection, or with -errno; after an error it pauses until source_resume(). */
struct source *loop_accept(struct loop *l, int fd, void (*fn)(void *arg, int fd), void *arg);
void source_resume(struct source *s);
/* Nothing more is received until source_resume(), but for what the kernel has already handed over. */
void source_pause(struct source *s);
/* Not all that is there was read, or it could not be read now: it is told of again, after others have had their turn. */
void source_again(struct source *s);

struct message_handler {
	/* One packet. `cut`: it was longer than the maximum, or carried descriptors (which are closed). */
	void (*received)(void *arg, const void *data, size_t size, bool cut);
	/* The peer is gone (0) or the connection failed (-errno). */
	void (*ended)(void *arg, int err);
};

/* A connection of packets. */
struct source *loop_messages(struct loop *l, int fd, const struct message_handler *handler, void *arg);

struct packet {
	struct link link; /* source::packets */
	void (*done)(struct packet *p, int err);
	void *arg;
	void *data;
	size_t size;
	const int *fds;
	size_t n_fds;
};

/* From now on `fn` is called, with `arg`. Returns `s`. */
struct source *source_redirect(struct source *s, void (*fn)(void *arg), void *arg);

void source_send(struct source *s, struct packet *p);
size_t source_unsent(const struct source *s);
/* -1: `s` is NULL, because what it was the source of has ended. */
int source_fd(const struct source *s);

/* Returns NULL. */
struct source *source_close(struct source *s);
