/* SPDX-License-Identifier: MIT */
/*
 * The images mapped in this process. An image whose objects others may point to has one place, so within a process all views
 * of it share one mapping; bytes that nobody points to may lie anywhere. Any thread.
 *
 * The place of objects is their own address, at home; where this process has something else, they are relocated: a copy whose pointers are
 * right is mapped elsewhere.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "image/cow.h"
#include "image/relocate.h"
#include "wire/wire.h"

struct mapping {
	struct mapping *next; /* of the registry */
	unsigned refs;
	bool fixed; /* for all views of the image */
	bool apart; /* at a place that no other process would choose */
	uint64_t home;
	bool writable;
	bool alone; /* no other view of it */
	bool has_objects;
	bool at_home_only; /* which are wrong elsewhere */
	uint64_t root;	   /* of those: an offset */
	uint64_t serial;
	uint32_t daemon;
	char *base;
	size_t size;
	struct cow cow;	      /* when writable */
	struct blame *blame;  /* who changes it, when that is asked */
	pthread_mutex_t busy; /* views of the same objects share it */
};

enum mapping_need {
	MAPPING_ANYWHERE, /* bytes: read-only at its own address if it is free, otherwise a place of its own */
	MAPPING_FIXED,	  /* objects, and what they point into: one place for all, in the mode asked for */
	MAPPING_ALONE,	  /* the same, and nobody else's */
};

/* Of the images that this one's objects may point into: those that are not at home. */
struct mapping_moves {
	size_t n;
	struct move all[WIRE_FDS_MAX];
	bool apart; /* one of them lies where it does in no other process */
	/* A copy of the image with that serial, which all who ask for it share: a descriptor, or -errno. The lock of all mappings is held. NULL: none. */
	int (*shared_copy)(void *arg, uint64_t serial, const struct move *moves, size_t n);
	void *arg;
};

/*
 * Maps an image of the daemon with that pid; takes `fd`. -EEXIST: something else lies there, and it must not be relocated. -EBUSY: it is there in
 * the other mode, or at all if it is to be alone. The caller calls mapping_unref().
 */
int mapping_get(const struct wire_image *im, uint32_t daemon, int fd, bool writable, enum mapping_need need,
		const struct mapping_moves *moves, struct mapping **out);
/* If it is not at home, that is one more. */
void mapping_add_move(const struct mapping *m, struct mapping_moves *moves);
void mapping_unref(struct mapping *m);

/*
 * In a template that has not come to its checkpoint yet writable mappings cannot be written to: what it would write its forks would have to
 * be given, page by page. In a fork they can.
 */
void mapping_allow_writes(void);

/* For a writable mapping; see cow_reset() and cow_changes(). */
int64_t mapping_reset(struct mapping *m);
int64_t mapping_changes(struct mapping *m, cow_change_fn fn, void *arg);

/* All that are mapped now; `fn` must not map or unmap any. */
void mapping_each(void (*fn)(struct mapping *m));
