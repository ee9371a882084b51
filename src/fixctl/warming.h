/* SPDX-License-Identifier: MIT */
/* Builds of many fixtures at once, and what a person is shown meanwhile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct fixd;
struct history;

struct warming {
	struct fixd *f;
	char **names; /* name or name[param] */
	size_t n;
	int timeout_ms;		 /* of each */
	FILE *out;		 /* for progress, when it is a terminal, and `lines` */
	bool json;		 /* an object a line in place of words */
	struct history *history; /* for when it will be over; or NULL */
	bool lines;		 /* one for each that is ready; of those that failed there is always one on standard error */
};

/* Returns when all are ready or have failed: 0, or the exit code of the first failure. */
int warming_run(const struct warming *w);

/* Says why one is not built here. */
void warming_skip(const struct warming *w, const char *name, const char *why, ...) __attribute__((format(printf, 3, 4)));
