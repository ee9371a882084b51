/* SPDX-License-Identifier: MIT */
/*
 * The fixture report: what there is, what of it was used, what it cost and what sharing it has saved; from what really happened. First
 * the numbers, as one object, then that in a form.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* What the daemon knows: its list, its status, and all events (a list). */
struct report_sources {
	json_t *list, *status, *events;
	json_t *bench;	  /* of fixctl bench, or NULL */
	const char *root; /* of the session that it is on; NULL: all of them */
	double since;	  /* seconds since 1970, 0: all */
	double now;
	bool lost; /* there were older events */
};

/* The keys are in fixctl(1). The caller's. */
json_t *report_make(const struct report_sources *s);

/*
 * Of what was watched (FIXD_BLAME) the lines that changed a fixture, and the tests that had it after them, the first VICTIMS_MAX of them by
 * name. By the order in which they did it.
 */
#define VICTIMS_MAX 20
json_t *report_culprits(const json_t *events);

void report_write_markdown(FILE *out, const json_t *report);
void report_write_html(FILE *out, const json_t *report, const struct report_sources *s);
/* A row for each of the fixtures, in their order; behind the first `shown` they are folded. */
void report_put_timeline(FILE *out, const json_t *fixtures, const json_t *events, size_t shown);

/* "12.345", or "N/A" for null. Returns `buf`. */
const char *report_number(char *buf, size_t n, const json_t *value, int decimals);
