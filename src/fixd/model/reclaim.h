/* SPDX-License-Identifier: MIT */
/* Giving up images that nobody holds, least recently used first, when something runs short. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/link.h"

struct model;
struct session;
struct user;

/* Somebody who waits for room. */
struct mem_waiter {
	struct link link; /* model::mem_waiters */
	void (*again)(struct mem_waiter *r);
};

/*
 * Makes room for `more` bytes, which the caller then counts (account.h). -EDQUOT if that cannot be done; -EAGAIN if it may
 * be possible once something has been torn down: reclaim_wait().
 */
int reclaim_memory(struct model *m, uint64_t more);
/* Calls again(), once, when something was torn down. link_remove() calls it off. */
void reclaim_wait(struct model *m, struct mem_waiter *r);
/* Something was torn down, or nobody is to wait any more. */
void reclaim_wake(struct model *m);

/* Keeps descriptors for clients: images and keepers have at most model::descriptors_max, unless they are held. */
void reclaim_descriptors(struct model *m);

/* After a restart: the lists of what is unused are in the order of use again. */
void reclaim_sort(struct model *m);

/* Makes room for an image of so many bytes among the user's own. NULL, or a sentence to be freed. */
char *reclaim_for_user(struct user *u, uint64_t bytes);
/* One image of an instance of the session. */
bool reclaim_of_session(struct session *s, const char *cause);
