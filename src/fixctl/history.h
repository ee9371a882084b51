/* SPDX-License-Identifier: MIT */
/* What the daemon's log of events says of builds: how they went, when the running ones began, how long the last ones took. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct fixd;

struct history {
	json_t *events; /* none of those that happen at every attach but the first of an image */
	uint64_t next;
	bool lost; /* the log had forgotten some */
};

/* Adds what has happened since, or was there at first. 0, or an exit code (printed). */
int history_read(struct history *h, struct fixd *f);
void history_deinit(struct history *h);

/* The events of one instance; a new list. */
json_t *history_of(const struct history *h, const char *session, const char *title);
/* When its running build began, since 1970; 0: nobody knows of one. */
double history_began(const struct history *h, const char *session, const char *title);
/* What its last build took, in seconds; below 0: nobody knows. `session` NULL: in any. */
double history_took(const struct history *h, const char *session, const char *title);
/* Of a build, how long it runs, and as the last one went, will, or that it waits: a few words, to be freed; "" when nothing is known. */
char *history_outlook(const struct history *h, const char *session, const char *title);
/* In a status, what is being built gets these words as its "outlook". The log is read only for that. 0, or an exit code (printed). */
int history_annotate(struct history *h, struct fixd *f, json_t *status);
