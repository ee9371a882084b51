/* SPDX-License-Identifier: MIT */
/* The room that performs the effects of the model, and what its files have in common. */
#pragma once

#include "base/link.h"
#include "fixd/loop/loop.h"
#include "fixd/model/effect.h"
#include "fixd/model/model.h"
#include "fixd/work/transfer.h"

struct work {
	struct model *model;
	struct ring *event_memory;
	struct board *board;
	struct watcher *watcher;
	struct worker *worker;
	struct builds *builds;
	struct link keepers;	/* of what must be torn down */
	struct link recoveries; /* of daemons that are gone */
	struct link survivors;	/* of a daemon that was killed */
	struct link transfers;
	struct link relocations;
	struct transfer_figures transferred;
	struct deferred ended; /* looks what waits for the end of a build or keeper */
	const char *socket;    /* where the daemon listens, for templates that attach */
	char *trees;	       /* the tmpfs directory of directory fixtures; NULL until the first one */
	int trees_lock;	       /* of that directory, while there is one */
};

extern const struct effects work_effects;

/* `ended` is the caller's to set. */
void work_init(struct work *w, struct model *m);
/* The log of events of the model, in memory of its own; takes `fd`, that of an earlier daemon, or -1. 0 or -ENOMEM. */
int work_open_events(struct work *w, int fd);
void work_close_events(struct work *w);
/* Asks all builds to end. */
void work_end(struct work *w);
/* Is no build and no keeper left? */
bool work_is_over(const struct work *w);
/* Whatever still runs is killed. The loop comes after it. */
void work_deinit(struct work *w);
