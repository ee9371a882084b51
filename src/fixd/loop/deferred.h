/* SPDX-License-Identifier: MIT */
/* The one way to do something later: after all callbacks of this turn of the loop, in the order in which it was asked for. */
#pragma once

#include "base/link.h"

struct loop;

struct deferred {
	struct link link; /* loop::deferred */
	void (*fn)(void *arg);
	void *arg;
};

void deferred_init(struct deferred *f, void (*fn)(void *arg), void *arg);
/* Once, however often it is asked for; from inside `fn`, in the next turn, which comes at once. */
void loop_defer(struct loop *l, struct deferred *f);
void deferred_cancel(struct deferred *f);
/* Now, if it waits. */
void deferred_flush(struct deferred *f);

/* For the loop: calls those that wait now. */
void deferred_run(struct loop *l);
