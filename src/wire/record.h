/* SPDX-License-Identifier: MIT */
/*
 * Records: how everything of variable shape is written (reports of the daemon, jobs for the helper). A record is a header
 * and its payload, padded to 8 bytes; an object or a list is a record whose payload is records. A reader passes over fields
 * it does not know.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/text.h"

enum record_kind {
	RECORD_NULL,
	RECORD_U64,
	RECORD_TIME, /* uint64_t, ns */
	RECORD_BOOL, /* uint64_t */
	RECORD_STRING,
	RECORD_OBJECT,
	RECORD_LIST, /* of records of one kind */
};

struct record_header {
	uint16_t field;
	uint16_t kind;
	uint32_t size; /* of the payload, without padding */
};

void record_null(struct text *t, uint16_t field);
void record_u64(struct text *t, uint16_t field, uint64_t v);
void record_time(struct text *t, uint16_t field, int64_t ns);
void record_bool(struct text *t, uint16_t field, bool v);
void record_string(struct text *t, uint16_t field, const char *s);		  /* NULL: a null */
void record_bytes(struct text *t, uint16_t field, const void *data, size_t size); /* a string of any bytes */

/* An object or a list: what is written until record_end() with the same mark is inside. */
size_t record_begin(struct text *t, uint16_t field, enum record_kind kind);
void record_end(struct text *t, size_t mark);

/* Reading, in place. */
struct record {
	uint16_t field;
	enum record_kind kind;
	uint64_t number;
	const char *data; /* string (not NUL-terminated), or the records inside */
	size_t size;
};

struct record_reader {
	const char *data;
	size_t size;
};

/* The next record; false at the end. A malformed rest sets *bad and ends. */
bool record_next(struct record_reader *r, struct record *out, bool *bad);
struct record_reader record_inside(const struct record *r);
/* A copy of a string record, to be freed. */
char *record_dup(const struct record *r);
