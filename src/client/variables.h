/* SPDX-License-Identifier: MIT */
/* The variables that a fixture is told of, learned from the daemon: their values go with each request. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct variables {
	struct variables *next;
	char *fixture;
	char *names; /* one a line */
};

/* Remembers what an -ENOKEY error asked for. True if asking again makes sense. */
bool variables_learn(struct variables **list, const char *name, const char *names);
/* NAME=value, or NAME for a variable that is not set, each with a NUL behind it. The size, or -E2BIG. */
ssize_t variables_put(const struct variables *list, const char *name, char *out, size_t room);
struct variables *variables_free(struct variables *list);
