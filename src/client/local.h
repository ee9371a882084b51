/* SPDX-License-Identifier: MIT */
/* Images that were built in this process because no daemon is asked (FIXD_DISABLE). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct local_image {
	struct local_image *next;
	char *name, *scope_key;
	int fd;
	uint64_t size;
	void *note; /* malloc()ed, or NULL */
	size_t note_size;
	bool released; /* somebody has been told to tear it down: it is not given out again */
};

/* The one of that name and scope key (or NULL) that may be given out, or NULL. */
struct local_image *local_image_find(struct local_image *list, const char *name, const char *scope_key);
void local_image_free(struct local_image *l);
void local_images_free(struct local_image *list);
