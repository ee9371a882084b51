/* SPDX-License-Identifier: MIT */
/* What is known while a saved state becomes a daemon: objects by the numbers that they have in it. For the files of load. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/vector.h"
#include "fixd/keep/rows.h"
#include "wire/record.h"

struct image;
struct instance;
struct keep;
struct session;

struct loading {
	struct keep *keep;
	int (*resolve)(void *arg, int number);
	void *arg;
	struct session **sessions; /* by their numbers */
	size_t n_sessions;
	struct vector images;	 /* by serial; a reference to each, until all are in place */
	struct vector instances; /* by their numbers; NULL: there is no such one any more */
	struct vector used;	 /* files and directories */
};

#define EACH_RECORD(l, saved, r)                       \
	for (struct {                                  \
		     struct record_reader in;          \
		     bool bad;                         \
	     } each = { record_inside(saved), false }; \
	     record_next(&each.in, &(r), &each.bad);)

/* A field that one of the rows is about. */
bool loading_row(struct loading *l, const struct row *rows, void *object, const struct record *r);
/* NULL: it is not there any more. */
struct image *loading_image(const struct loading *l, uint64_t serial);
struct session *loading_session(const struct loading *l, uint64_t n);
struct instance *loading_instance(const struct loading *l, uint64_t n);

/* A connection with its leases and what it builds; and later, when everybody is there, what it has asked for. */
void loading_conn(struct loading *l, const struct record *saved);
void loading_asked(struct loading *l, const struct record *saved);
