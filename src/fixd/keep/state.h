/* SPDX-License-Identifier: MIT */
/*
 * The state of the daemon, to be passed to the process that takes its place: as records, and the descriptors that they name by
 * their numbers. What can be derived is not in it; builds that run are not, either: whoever waits for one asks again.
 *
 * Promises: the new daemon refuses what does not fit (a memory file that is not sealed, or has another size, is no image); what was
 * watched is compared with what was seen before, so an edit between the two is noticed; definitions are read anew, and what does
 * not fit them is stale.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/rows.h"

#define STATE_VERSION 1

struct keep;

enum state_for {
	STATE_FOR_EXEC,	   /* everything; the loop must have been quiesced */
	STATE_FOR_STORE,   /* without connections, and without a listening socket that the service manager has itself */
	STATE_FOR_FAREWELL /* the same with connections */
};

/* Its number, which image::saved of all that is in it is. */
uint64_t state_save(struct keep *keep, enum state_for purpose, struct state *out);
void state_deinit(struct state *s);

/*
 * Into a daemon that has started and has nothing yet. `resolve` gives the descriptor for a number in the records (-1: it is not
 * there); it is the daemon's then. 0, or -errno: nothing was restored.
 */
int state_load(struct keep *keep, const void *records, size_t size, int (*resolve)(void *arg, int number), void *arg);
