/* SPDX-License-Identifier: MIT */
/*
 * A user, and what is counted for it: no user takes from others what is theirs. The daemon's own user and root are counted,
 * too, but have no limits beside those of the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"

struct lane;
struct model;

struct user {
	struct link link; /* model::users */
	struct model *model;
	uid_t uid;
	bool limited;
	unsigned refs;
	size_t n_connections, n_sessions, n_fixtures, n_instances, n_images, n_builds;
	uint64_t bytes;	     /* of images that its clients built, and of notes */
	struct lane *lane;   /* of what its clients ask (serve/inbox); NULL: nothing yet. It goes with the user */
	uint64_t build_turn; /* the number of the last build that was begun for it */
	struct link unused;  /* like model::unused, of what its clients built */
};

/* A reference, to be given back with user_unref(). */
struct user *user_get(struct model *m, uid_t uid);
struct user *user_ref(struct user *u);
struct user *user_unref(struct user *u);

/* NULL, or a sentence (to be freed) that says which limit one more connection or build would pass. */
char *user_refuses_connection(const struct user *u);
char *user_refuses_build(const struct user *u);
/* The sentence: it has `max` of `what`, and `key` in the ini file allows no more. */
char *user_refusal(const struct user *u, const char *what, const char *key, unsigned long long max);

/* Has it as many instances as a user may have? */
bool user_is_full(const struct user *u);

/* The most bytes an image of the user's may have now. */
uint64_t user_bytes_left(const struct user *u);
