/* SPDX-License-Identifier: MIT */
#include "client/replay.h"

#include <stdlib.h>
#include <string.h>

struct replay *replay_new(uint16_t type, const char *key, const void *body, size_t size)
{
	struct replay *p = calloc(1, sizeof *p + size);

	if (p)
		p->key = strdup(key);
	if (!p || !p->key) {
		free(p);
		return NULL;
	}
	p->type = type;
	p->size = size;
	memcpy(p->body, body, size);
	return p;
}

struct replay *replay_free(struct replay *p)
{
	if (!p)
		return NULL;
	free(p->key);
	free(p);
	return NULL;
}

void replay_add(struct replay **list, struct replay *p)
{
	struct replay **at = list;

	while (*at && ((*at)->type != p->type || strcmp((*at)->key, p->key) != 0))
		at = &(*at)->next;
	if (*at) {
		struct replay *old = *at;

		p->next = old->next;
		replay_free(old);
	}
	*at = p;
}
