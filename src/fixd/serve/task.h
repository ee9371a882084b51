/* SPDX-License-Identifier: MIT */
/*
 * A request whose handling takes more than one slice: reports, clean-ups. Between two slices everything may have changed, so a task holds
 * names and numbers, and no pointers to what may go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "wire/wire.h"

struct conn;

struct task {
	struct conn *conn;
	struct wire_header request;
	/* Goes on until clock_now() is `until`, or it is done and answered: then true. It has one look at least. */
	bool (*step)(struct task *t, int64_t until);
	void (*free)(struct task *t);
	struct message *message; /* that it was begun by */
};

/* From a handler: the request goes on as this task. */
void task_begin(struct conn *c, const struct wire_header *h, struct task *t);
