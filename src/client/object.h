/* SPDX-License-Identifier: MIT */
/*
 * What lies at an address of a view, as the author of its builder or of the test would name it: by the table of the image
 * (image/objects.h); otherwise from a variable of this program that points there or nearest before it; otherwise from the root.
 */
#pragma once

#include <stddef.h>

struct mapping;

/* At most `room` - 1 bytes of it in `text`; how long it is. 0: nothing is known but the offset. */
size_t object_name(const struct mapping *m, const void *address, char *text, size_t room);
