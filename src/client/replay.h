/* SPDX-License-Identifier: MIT */
/* What a new connection is told, so that it is what the old one was: the session and run that were joined, the fixtures defined. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct replay {
	struct replay *next;
	uint16_t type;
	char *key; /* what a later one of that key replaces */
	size_t size;
	char body[];
};

/* NULL: no memory. */
struct replay *replay_new(uint16_t type, const char *key, const void *body, size_t size);
/* At the end of the list, or in the place of that of the same type and key; takes it. */
void replay_add(struct replay **list, struct replay *p);
struct replay *replay_free(struct replay *p);
