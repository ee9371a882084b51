/* SPDX-License-Identifier: MIT */
/*
 * Objects as records: a table of its members for each struct, from which it is written and read again. A descriptor is written as its
 * number, and goes along with the records.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "image/digest.h"
#include "wire/record.h"

enum row_type {
	ROW_NUMBER, /* of any width */
	ROW_STRING, /* char *, may be NULL */
	ROW_LIST,   /* char **, NULL-terminated; may be NULL */
	ROW_TEXT,   /* struct text */
	ROW_DIGEST,
	ROW_FD,	  /* -1: none */
	ROW_TIME, /* int64_t, ns */
	ROW_PATH, /* a string: an entry of the directory of trees */
};

struct row {
	uint8_t type;  /* enum row_type */
	uint8_t width; /* 0: the end of the table */
	bool is_pid;   /* or a negative one would be sent to everybody */
	size_t offset;
	uint64_t max; /* of a number */
	const char *name;
};

/* clang-format off */
#define ROW_UP_TO(type, what, member, max) { what, sizeof(((type *)0)->member), false, offsetof(type, member), max, #member }
/* clang-format on */
#define ROW_OF(type, what, member) ROW_UP_TO(type, what, member, INT64_MAX)

/* Times beyond this are none (some 146 years: the longest duration behind another one), and process numbers (PID_MAX_LIMIT of the kernel). */
#define TIME_NUMBER_MAX (INT64_C(1) << 62)
#define PID_NUMBER_MAX 4194304

/* What is written. */
struct state {
	struct text records;
	int *fds;
	size_t n_fds;
};

/* The field of a row is its index plus one. */
void rows_save(const struct row *rows, const void *object, struct state *s);
/* A descriptor that goes along; it stays the caller's. */
void rows_add_fd(struct state *s, int fd);

/* False: it is none of the table's. `resolve` gives the descriptor for a number, or -1. */
bool row_load(const struct row *rows, void *object, const struct record *r, int (*resolve)(void *arg, int number), void *arg);
/* A list of digests, to be freed. */
struct digest *rows_digests(const struct record *r, size_t *n);
