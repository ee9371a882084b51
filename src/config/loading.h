/* SPDX-License-Identifier: MIT */
/*
 * While a configuration is read: what becomes of it, and what was wrong.
 *
 * Promises: a mistake is one line with its place, and all that follows it is looked at all the same.
 */
#pragma once

#include <stdbool.h>

#include "base/text.h"
#include "config/config.h"
#include "config/keys.h"
#include "config/raw.h"

struct loading {
	struct config *config;
	const char *file; /* for messages */
	const char *root; /* where relative paths start */
	struct raw_file raw;
	struct text *problems;
	bool failed;
};

#define problem(l, line, ...)                                                \
	do {                                                                 \
		config_problem((l)->problems, (l)->file, line, __VA_ARGS__); \
		(l)->failed = true;                                          \
	} while (0)

/* Parses one entry into `object`; `policy` is the object of keys that [policy] also knows. */
void loading_apply(struct loading *l, const struct raw_entry *e, enum key_section section, void *object, struct policy *policy);
/* Can it be run as it stands? Otherwise that is a problem. */
bool loading_command(struct loading *l, const struct raw_entry *e);
/* All entries of one section. */
void loading_section(struct loading *l, const char *name, enum key_section section, void *object, struct policy *policy);
