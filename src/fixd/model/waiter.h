/* SPDX-License-Identifier: MIT */
/*
 * Waiters: who asks for an instance, and what of it and of what it depends on has to be built or looked at before.
 *
 * Promises: each is answered once, in the order of the questions, by what holds for the time at which it asked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/link.h"

struct image;
struct instance;
struct user;

enum outcome { OUTCOME_READY, OUTCOME_PENDING, OUTCOME_FAILED };

/* Somebody who asked. `answer` is called exactly once, also from inside waiter_begin(). */
struct waiter {
	struct link link; /* instance::waiters */
	struct instance *instance;
	struct user *user; /* who asks; NULL: the daemon itself */
	int64_t asked;
	bool built;		/* it had to wait for a build */
	bool can_build;		/* what clients build: it may be asked to */
	bool holds;		/* it will have a lease */
	struct image **depends; /* from these */
	size_t n_depends;
	/* It may be to build: looks at the inputs for it. False: that takes longer, and is to be asked again. */
	bool (*look)(struct waiter *w);
	/* It is to build: NULL, or a sentence (to be freed) that says why it cannot. Then the waiter is gone, or is answered. */
	char *(*offer)(struct waiter *w);
	void (*answer)(struct waiter *w, enum outcome outcome);
};

void waiter_begin(struct instance *i, struct waiter *w);
/* The waiter is not to be answered any more: what nobody else waits for, and has not begun, is not built. */
void waiter_cancel(struct waiter *w);
/* Why who asks now would not be told that it has failed, but have it built, whatever its inputs; NULL: no reason. */
const char *waiter_retry_cause(const struct instance *i);

/* For supply.c: `w`, who waits for one of them longest, is answered by that clone. False: it is not ready for it, and is begun anew. */
bool waiter_take(struct waiter *w, struct instance *clone);

/* For instance.c. */

/* Into the list, before `before`; and out of it, if it is there. */
void waiter_add(struct instance *i, struct waiter *w, struct link *before);
void waiter_remove(struct waiter *w);
/* Answers, and forgets. */
void waiter_answer(struct waiter *w, enum outcome outcome);
