/* SPDX-License-Identifier: MIT */
#include "client/variables.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool same_fixture(const struct variables *e, const char *name)
{
	size_t n = strcspn(name, "[");

	return strlen(e->fixture) == n && !strncmp(e->fixture, name, n);
}

bool variables_learn(struct variables **list, const char *name, const char *names)
{
	struct variables *e;

	for (e = *list; e && !same_fixture(e, name); e = e->next)
		;
	if (e && !strcmp(e->names, names))
		return false; /* it had them all */
	if (!e) {
		e = calloc(1, sizeof *e);
		if (!e)
			return false;
		e->fixture = strndup(name, strcspn(name, "["));
		e->next = *list;
		*list = e;
	}
	free(e->names);
	e->names = strdup(names);
	if (e->fixture && e->names)
		return true;
	*list = e->next;
	free(e->fixture);
	free(e->names);
	free(e);
	return false;
}

ssize_t variables_put(const struct variables *list, const char *name, char *out, size_t room)
{
	const struct variables *e;
	size_t n = 0;

	for (e = list; e && !same_fixture(e, name); e = e->next)
		;
	for (const char *p = e ? e->names : ""; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		char variable[256];
		const char *value;
		int length;

		snprintf(variable, sizeof variable, "%.*s", (int)strcspn(p, "\n"), p);
		value = getenv(variable);
		length = snprintf(out + n, room - n, "%s%s%s", variable, value ? "=" : "", value ? value : "");
		if (length < 0 || (size_t)length + 1 > room - n)
			return -E2BIG;
		n += (size_t)length + 1;
	}
	return (ssize_t)n;
}

struct variables *variables_free(struct variables *list)
{
	while (list) {
		struct variables *next = list->next;

		free(list->fixture);
		free(list->names);
		free(list);
		list = next;
	}
	return NULL;
}
