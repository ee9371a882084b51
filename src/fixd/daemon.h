/* SPDX-License-Identifier: MIT */
/* The daemon: what all its parts share, how it starts and ends. One thread, besides the worker's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "base/text.h"
#include "fixd/loop/loop.h"
#include "fixd/serve/inbox.h"

struct daemon {
	struct config *config;
	uint64_t n_configs; /* that were read */
	struct loop *loop;
	struct watcher *watcher;
	struct worker *worker;
	struct board *board;
	struct region *region;
	struct link sessions;
	struct session *session; /* of the ini file: the first of them */
	struct link users;
	struct link unused;    /* images that are current and nobody uses, the least recently used first */
	uint64_t unused_bytes; /* of those, and of those of users */
	struct builds *builds;
	struct link keepers; /* of what must be torn down */
	struct link rooms; /* who waits for memory */
	struct link cleanups; /* that wait for teardowns */
	struct events *events;
	struct link followers; /* who waits for events */
	struct timer telling;  /* them */
	struct link leftovers; /* of daemons that are gone */
	struct deferred work_ended; /* looks what waits for the end of a build or keeper */
	const struct control *control;
	const struct effects *effects;
	const struct image_owner *image_owner;
	struct listener *listener;
	char *program, **argv; /* how it was started */
	char *socket;
	char *trees;	 /* the tmpfs directory of directory fixtures; NULL until the first one */
	int trees_lock;	 /* of that directory, while there is one */
	struct link conns;
	struct inboxes inboxes;
	struct link survivors; /* of a daemon that was killed */
	size_t n_conns;
	int64_t started;
	uint64_t last_serial;
	uint64_t memory_used;
	size_t n_images, n_keepers, descriptors_max;
	uint64_t hits, misses, failures, evictions, teardown_failures;
	bool stopping;
	bool restarting; /* no build is begun */
	bool loading;	 /* the state of the daemon before it: no run ends yet */
	struct resumed {
		uint64_t board_value;
		uint32_t board_used;
		int board, events, listener, listener_lock;
		uint64_t asker, asker_request; /* connection and request that are to be answered */
	} resumed; /* of the daemon before this one, until it is in place */
	struct timer idle;
	struct timer sweep;
	struct fdstore *fdstore; /* or NULL */
	struct deferred unsaved; /* writes what is kept over restarts, which has changed */
	int64_t watchdog; /* ns between two signs of life, or 0 */
	struct timer alive;
	struct timer restart;
	struct timer end; /* of everything, once it is to stop */
	int signals;   /* of the loop */
	int log_level; /* of the command line; -1: as configured */
};

/* Something has changed that is kept over restarts. */
static inline void state_mark_dirty(struct daemon *d)
{
	loop_defer(d->loop, &d->unsaved);
}

/* With `config`, `socket` and `log_level` set. 0, or -errno, which was logged. daemon_finish() either way. */
int daemon_start(struct daemon *d);
/* Until it is to stop. `ready_fd` is told when clients may connect (-1: nobody). */
int daemon_run(struct daemon *d, int ready_fd);
void daemon_finish(struct daemon *d);

/* Drops everybody, tears everything down, and then ends the loop. */
void daemon_stop(struct daemon *d);
