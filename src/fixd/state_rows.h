/* SPDX-License-Identifier: MIT */
/* How the objects of the daemon are written: a table for each, from which they are saved and loaded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fixd/state.h"
#include "wire/record.h"

enum row_type {
	ROW_NUMBER, /* of any width */
	ROW_STRING, /* char *, may be NULL */
	ROW_LIST,   /* char **, NULL-terminated; may be NULL */
	ROW_TEXT,   /* struct text */
	ROW_DIGEST,
	ROW_FD, /* -1: none */
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

#define ROW_UP_TO(type, what, member, max) { what, sizeof(((type *)0)->member), false, offsetof(type, member), max, #member }
#define ROW_OF(type, what, member) ROW_UP_TO(type, what, member, INT64_MAX)

/* Times beyond this are none (some 73 years), and process numbers (PID_MAX_LIMIT of the kernel). */
#define TIME_NUMBER_MAX (INT64_C(1) << 61)
#define PID_NUMBER_MAX 4194304

/* Everything else has a field of its own, above those of the tables. */
enum state_field {
	STATE_VERSION_FIELD = 1000,
	STATE_DAEMON,
	STATE_SESSION,
	STATE_FIXTURE,
	STATE_NAME,
	STATE_SETTING,
	STATE_RUN,
	STATE_USE,
	STATE_IMAGE,
	STATE_SAW,
	STATE_DEPENDS,
	STATE_NEEDS,
	STATE_OF_SESSION,
	STATE_KEEPER,
	STATE_INSTANCE,
	STATE_REGISTERED,
	STATE_CURRENT,
	STATE_LAST,
	STATE_FAILED_WITH,
	STATE_WATCH,
	STATE_EAGER,
	STATE_RESTART_IN,
	STATE_OFFER,
	STATE_OF_CONN,
	STATE_ORPHAN,
	STATE_CONN,
	STATE_RUN_ID,
	STATE_OBSERVER,
	STATE_CLOSING,
	STATE_FD,
	STATE_LEASE,
	STATE_SERIAL,
	STATE_ATTACH,
	STATE_RELEASE,
	STATE_ID,
	STATE_FLAGS,
	STATE_DEADLINE,
	STATE_OF_INSTANCE,
	STATE_HOLDER,
	STATE_PID,
	STATE_MESSAGE,
};

/* The field of a row is its index plus one. */
extern const struct row daemon_rows[], session_rows[], run_rows[], use_rows[], image_rows[], keeper_rows[], instance_rows[],
	orphan_rows[], conn_rows[], lease_rows[], offer_rows[];

void rows_save(const struct row *rows, const void *object, struct state *s);
/* False: it is none of the table's. */
bool row_load(const struct row *rows, void *object, const struct record *r, int (*resolve)(void *arg, int number), void *arg);

/* A list of digests, to be freed. */
struct digest *state_digests(const struct record *r, size_t *n);
/* A descriptor that goes along. */
void state_add_fd(struct state *s, int fd);
