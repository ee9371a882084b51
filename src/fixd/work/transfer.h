/* SPDX-License-Identifier: MIT */
/*
 * Images on their way from the remote, or to it: fixd-remote tells how far it is (remote/tell.h). What goes there goes on by itself when its
 * build is long over, and when this daemon is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/link.h"

struct build;
struct instance;
struct source;
struct work;

struct transfer {
	struct link link; /* work::transfers */
	struct work *work;
	struct source *source;
	int fd;		     /* the source's */
	struct build *build; /* that it waits for (build::offer), or that waits for it (build::download); or NULL */
	char *title, *session;
	void (*over)(struct build *b);
	bool up;
	bool waits; /* for its turn: not too many go to the remote at once */
	bool begun; /* there is something to transfer */
	bool whole;
	char *wrong; /* NULL: nothing was said */
	uint64_t done, size;
	int64_t started;
	int64_t moved; /* when it has said something, or was let go */
};

/* Since this daemon began. */
struct transfer_figures {
	uint64_t downloads, downloaded_bytes, uploads, uploaded_bytes, failures;
};

/* Of what is built: takes the descriptor. One to the remote waits; of one from there the build is told when it is over, unless that is over, too. */
void transfer_new(struct build *b, int fd, bool up, void (*over)(struct build *b));
/* The one that waits for this build, which it does not know any more; or NULL. */
struct transfer *transfer_of(struct build *b);
/* It was right, and goes; or it ends. NULL: there is none. */
void transfer_decide(struct transfer *t, bool right);
/* One to the remote of the daemon before this one, with what it knew; takes it. */
void transfer_resume(struct work *w, struct transfer *t);
/* The next ones whose turn it is. */
void transfers_let_go(struct work *w);
/* Is anything on its way to the remote? */
bool transfers_go_up(const struct work *w);
/* The daemon is about to end: what waits for its turn goes on without one. */
void transfers_go_alone(struct work *w);
/* Nobody listens to them any more. */
void transfers_free(struct work *w);
