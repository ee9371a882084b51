/* SPDX-License-Identifier: MIT */
/*
 * What `fixctl bench` is made of: a daemon of its own, in which nothing else happens; each fixture measured several times, against a
 * builder that does nothing; and the comparison with an earlier time.
 */
#pragma once

#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

struct fixctl;

struct bench_options {
	const char *config;	   /* NULL: that of the running daemon */
	char **names;		   /* globs; NULL: all */
	size_t runs, max_fixtures; /* 0: as many as there are */
	int timeout_ms;		   /* of one build */
	bool progress;		   /* a line that is drawn again */
};

/* Set by SIGINT: what was measured until then is kept. */
extern volatile sig_atomic_t bench_interrupted;

/* The measurements, see fixctl(1). 0, or an exit code (printed). */
int bench_measure(struct fixctl *ctl, const struct bench_options *o, json_t **out);

/* What --json has printed earlier, for an option of a command; exits if the file is something else. */
json_t *bench_load(const char *command, const char *option, const char *path);

/* Prints what has become slower or larger by more than `threshold` (0.2 is a fifth) and the noise; how many of them. */
size_t bench_compare(const json_t *fresh, const json_t *old, double threshold);

/* As a table. */
void bench_print(const json_t *results);

/* `fixctl bench --imports -- COMMAND`: an exit code. */
int bench_imports(char **command);
