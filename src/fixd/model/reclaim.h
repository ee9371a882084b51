/* SPDX-License-Identifier: MIT */
/* Giving up images that nobody holds, least recently used first, when something runs short. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/link.h"

struct daemon;
struct session;
struct user;

/* Somebody who waits for room. */
struct room {
	struct link link; /* daemon::rooms */
	void (*again)(struct room *r);
};

/*
 * Makes room for `more` bytes, which the caller counts in daemon::memory_used. -EDQUOT if that cannot be done; -EAGAIN if it may
 * be possible once something has been torn down: evict_wait().
 */
int evict_for_memory(struct daemon *d, uint64_t more);
/* Calls again(), once, when something was torn down. link_remove() calls it off. */
void evict_wait(struct daemon *d, struct room *r);
/* Something was torn down, or nobody is to wait any more. */
void evict_continue(struct daemon *d);

/* Keeps descriptors for clients: images and keepers have at most daemon::descriptors_max, unless they are held. */
void evict_for_descriptors(struct daemon *d);

/* After a restart: the lists of what is unused are in the order of use again. */
void evict_sort(struct daemon *d);

/* One image that clients of the user built. False if all of them are held. */
bool evict_of_user(struct user *u, const char *cause);
/* One image of an instance of the session. */
bool evict_of_session(struct session *s, const char *cause);
