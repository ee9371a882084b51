/* SPDX-License-Identifier: MIT */
#include "fixd/serve/tail.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

char *tail_string(struct tail *t, size_t n)
{
	char *s = (size_t)(t->end - t->at) < n || memchr(t->at, 0, n) ? NULL : xstrndup(t->at, n);

	t->at += s ? n : 0;
	return s;
}

char **tail_list(struct tail *t, size_t n)
{
	char **list = xcalloc(1, sizeof *list);
	const char *end = t->at + n;
	size_t count = 0;

	if ((size_t)(t->end - t->at) < n) {
		free(list);
		return NULL;
	}
	while (t->at < end) {
		size_t length = strnlen(t->at, (size_t)(end - t->at));

		list = xrealloc(list, (count + 2) * sizeof *list);
		list[count++] = xstrndup(t->at, length);
		list[count] = NULL;
		t->at += length + 1;
	}
	t->at = end;
	return list;
}

bool tail_bytes(struct tail *t, void *out, size_t n)
{
	if ((size_t)(t->end - t->at) < n)
		return false;
	memcpy(out, t->at, n);
	t->at += n;
	return true;
}
