/* SPDX-License-Identifier: MIT */
/* What the key of an image on the remote is made from, and which of it is another one on another machine. */
#pragma once

#include <jansson.h>

struct fixd;

/* Of the image of that title a new list: name, value, file (the value is the SHA-256 of one); NULL: it has no key. */
json_t *key_parts(struct fixd *f, const char *title);
void key_parts_print(const json_t *parts);
/*
 * Prints what differs from the parts in a file, which explain --json has printed elsewhere, for the instance of that title. The number of
 * parts, or negative: the file has none, which was said.
 */
int key_parts_compare(const json_t *parts, const char *title, const char *file);
