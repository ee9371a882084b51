/* SPDX-License-Identifier: MIT */
/* A fixture by its name. */
#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"
#include "base/text.h"
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

/* Among so many: a daemon does nothing else meanwhile. */
#define LOOKED_AT_MAX 1000

char *config_question(const struct config *c, const char *name)
{
	_cleanup_text_ struct text all = { 0 };

	text_puts(&all, "");
	for (size_t k = 0; k < c->n_fixtures && k < LOOKED_AT_MAX; k++)
		text_printf(&all, "%s,", c->fixtures[k]->name);
	return nearest_question(name, all.data);
}
