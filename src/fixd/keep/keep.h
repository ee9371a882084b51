/* SPDX-License-Identifier: MIT */
/* The room that keeps state over restarts: what its files have in common. */
#pragma once

#include <stdint.h>

#include "fixd/loop/loop.h"
#include "fixd/model/model.h"
#include "fixd/serve/server.h"
#include "fixd/work/work.h"

struct fdstore;

/* What is kept of the daemon itself. */
struct kept {
	int64_t started;
	uint64_t last_serial;
	uint64_t hits, misses, failures, evictions, teardown_failures;
	char *trees, *unsandboxed;
	int trees_lock;
	uint64_t board_value;
	uint32_t board_used;
	int board, events, listener, listener_lock;
	uint64_t asker, asker_request; /* connection and request that are to be answered */
};

struct keep {
	struct model *model;
	struct work *work;
	struct server *server;
	char *program, **argv;	     /* how it was started */
	int listener, listener_lock; /* of the daemon before this one, until it is in place; or -1 */
	uint64_t asker, asker_request;
	struct fdstore *fdstore; /* or NULL */
	struct deferred restart;
};
