/* SPDX-License-Identifier: MIT */
/*
 * What a plugin says of its objects: kept aside while it builds, and put at the end of the image (image/objects.h) when it has.
 */
#pragma once

#include <stddef.h>

#include "builder/work.h"

/* Memory of its own: while a plugin builds, malloc() may be the arena's. */
struct pile {
	char *bytes;
	size_t size, room;
};

struct descriptions {
	struct pile objects, types, names;
	bool full; /* there was no memory for one of them */
};

/* `n` objects of `size` bytes from `p` on; strings are copied. */
void describe_add(struct descriptions *d, const void *p, size_t n, size_t size, const char *type);
/* Adds the table, if there is anything to be in it. 0, or the failure of the job. */
int describe_write(struct work *w, const struct descriptions *d);
