/* SPDX-License-Identifier: MIT */
/* The table of keys: for each its section, how its value is written, where it goes, and what is allowed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

enum key_section {
	KEY_FIXD = 1,
	KEY_POLICY = 2,
	KEY_FIXTURE = 4,
	KEY_REMOTE = 16,
	KEY_REGISTERED = 8, /* a fixture that a client registers; also in an ini section with `client = yes` */
};

enum key_type {
	KEY_STRING,
	KEY_PATH, /* made absolute */
	KEY_LIST,
	KEY_PATH_LIST,
	KEY_COMMAND, /* a shell command: no inline comments */
	KEY_ENUM,
	KEY_U64,
	KEY_ADDRESS,
	KEY_SIZE,     /* or none */
	KEY_DURATION, /* not none */
	KEY_DURATION_OR_NONE,
};

struct key {
	const char *name;
	unsigned sections; /* enum key_section */
	enum key_type type;
	size_t offset;		   /* in config (also of [remote]), policy, or fixture, by section */
	const char *const *values; /* of an enum, NULL-terminated */
	unsigned long long min, max;
};

/* NULL if there is no such key in that section. */
const struct key *key_find(enum key_section section, const char *name);
extern const struct key key_table[];
extern const size_t key_count;

/* All key names of a section, separated by ", ". */
char *key_names(enum key_section section);

/*
 * Parses `value` into the field of `object`. Returns NULL, or what is wrong and what is allowed (to be freed). `root` is
 * what relative paths start at.
 */
char *key_parse(const struct key *k, const char *value, const char *root, void *object);
/* Frees the strings and lists of `object`. */
void key_free_fields(enum key_section section, void *object);
/* Writes the value of a field as it would stand in the file. */
void key_print(const struct key *k, const void *object, struct text *out);
