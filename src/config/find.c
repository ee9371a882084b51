/* SPDX-License-Identifier: MIT */
/* A fixture by its name. */
#include <string.h>

#include "config/config.h"

const struct fixture *config_find(const struct config *c, const char *name)
{
	size_t low = 0, high = c->n_fixtures;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, c->fixtures[mid]->name);

		if (order == 0)
			return c->fixtures[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}
