/* SPDX-License-Identifier: MIT */
/*
 * One pass over the words of an arena image, after the last write and before the seal:
 *  - the pointer audit: a word that is an address of this process (heap, stack, text, data) would mean nothing in another
 *    one; such words are reported with what they point at;
 *  - the digest: as if every pointer into the image or its dependencies were an offset, so that the same objects at another
 *    address have the same digest.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/digest.h"

struct audit_range {
	uintptr_t start, end;
};

/*
 * A stray pointer: where it lies in the image, its value, what is there ("static variable 'table' of /lib/x.so"), and what can be done
 * about those of its kind.
 */
typedef void (*audit_stray_fn)(void *arg, size_t offset, uintptr_t value, const char *what, const char *hint);

struct audit {
	const char *base; /* the image, as mapped */
	size_t size;
	uint64_t root; /* offset of the root object: part of the digest */
	const struct audit_range *dependencies;
	size_t n_dependencies;
	audit_stray_fn stray; /* NULL: no audit */
	void *arg;
	bool *packed; /* set when an address of the image or a dependency lies at no multiple of its size; NULL: that is not looked for */
};

/* Returns the number of stray pointers, or -errno. The first `report_max` are reported one by one, and the first of each kind. */
int64_t audit_run(const struct audit *a, size_t report_max, struct digest *digest);
