/* SPDX-License-Identifier: MIT */
/* A view as the library has it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "client/connection.h"
#include "client/mapping.h"
#include "fixd.h"
#include "wire/wire.h"

struct fixd_view {
	struct fixd_view_head head; /* first: fixd_view_current() */
	struct fixd *fixd;
	uint64_t epoch; /* of the connection that has the lease */
	pid_t attached_by;
	struct board_map *board;
	uint64_t serial;
	uint64_t root;
	uint32_t generation;
	unsigned flags;		       /* enum fixd_view_flags */
	uint32_t resets, dirty_resets; /* the daemon hears of them in the end */
	uint64_t pages_reset;
	char *path;
	int tree; /* the directory at `path`, locked: when its daemon has died, the next one must not remove it. Or -1 */
	dev_t tree_device;
	ino_t tree_inode;
	struct local_image *local; /* what it is of, when no daemon knows it */
	bool is_watched;
	struct fixd_view *next_watched;
	size_t n_mappings; /* the image, then what its objects point into */
	struct mapping *mappings[];
};

/* The options of a caller (or NULL), of which the flags `known` are allowed. 0, or -errno with a sentence. */
int options_take(struct fixd *f, const struct fixd_options *given, unsigned known, struct fixd_options *out);

/*
 * Attaches: 0 and *out; or with WIRE_ATTACH_BUILD in `flags` 1, *offer, and in *channel the descriptor to build over. -errno with a
 * sentence.
 */
int view_attach(struct fixd *f, const char *name, const struct fixd_options *o, uint32_t flags, struct fixd_view **out,
		struct wire_offer *offer, int *channel);

/* A view of the image that this client has just published, and has a lease of; takes `fd`. */
int view_of_published(struct fixd *f, const char *name, const struct wire_image *im, int fd, bool writable, struct fixd_view **out);

/* A view of an image that no daemon knows; takes `fd`. */
int view_of_local(struct fixd *f, int fd, uint64_t size, bool writable, struct fixd_view **out);
