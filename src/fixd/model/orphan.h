/* SPDX-License-Identifier: MIT */
/*
 * An orphan: what is left of an image whose teardown nobody was told to do, and which nobody holds or needs: its title and its note, for
 * whoever adopts it.
 */
#pragma once

#include <stdint.h>

#include "base/link.h"

struct image;
struct session;
struct user;

struct orphan {
	struct link link; /* session::orphans, in the order of their serials */
	struct session *session;
	char *title;
	uint64_t serial; /* of the image */
	int note_fd;
	uint64_t note_size, bytes; /* counted for the user */
	struct user *user;	   /* a reference */
};

/* Takes the note of an image that is going. */
void orphan_add(struct image *im);
/* One that there was in another process. */
void orphan_resume(struct session *s, struct orphan *o);
/* The newest that matches the name or glob, taken out of the list, or NULL. The caller calls orphan_return() or orphan_free(). */
struct orphan *orphan_take(struct session *s, const char *pattern);
/* Nobody was told of it after all. */
void orphan_return(struct orphan *o);
struct orphan *orphan_free(struct orphan *o);
