/* SPDX-License-Identifier: MIT */
/*
 * The pool of an instance that gives each holder a clone of its own: a fixture with `clones`, and what depends on one. What is asked
 * for is its front, which is never built itself; its clones are instances like others, and each clone has clones of its own of what
 * it depends on. Here is what they tell; what is done about it is supply.h's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/vector.h"
#include "fixd/loop/deferred.h"
#include "fixd/loop/timer.h"

struct image;
struct instance;

/* Of so many hand-outs it is known how long they took. */
#define POOL_HANDOUTS 256

/* Of all its clones so far, in ns. */
struct pool_figures {
	uint64_t started, given;
	uint64_t wasted;		 /* that have ended, and nobody had them */
	int64_t starts;			 /* the time of all starts */
	int64_t saved;			 /* that those who asked would have waited for a start of their own */
	int64_t handouts[POOL_HANDOUTS]; /* how long the last of them waited, in a ring */
};

struct pool {
	struct instance *front;
	struct vector clones; /* struct instance, of which some may be empty places */
	unsigned wanted;      /* so many are kept ready; 0: none is started before somebody asks */
	bool resumed;	      /* from the daemon before this one: as many as there are */
	unsigned failures;    /* in a row: of starts, or soon after them */
	int64_t retry_at;     /* after these */
	struct deferred serving;
	struct timer retry, idle;
	struct pool_figures figures;
};

/* So long nobody has taken one: fewer are kept ready. */
#define POOL_IDLE (10 * NSEC_PER_SEC)

/* The clones stay, of no pool. */
struct pool *pool_free(struct pool *p);
/* A clone, new or of the daemon before this one; and it goes. */
void pool_add(struct pool *p, struct instance *clone);
void pool_remove(struct pool *p, const struct instance *clone);

/* One is to be ready, though nobody asks. */
void pool_warm(struct pool *p);

/* They are given up on purpose: none is kept ready before somebody asks. */
void pool_rest(struct pool *p);

/* Something about a clone has changed, or somebody has begun to wait at the front. */
void pool_changed(struct pool *p);
/* One was started, in `ns`; was given to somebody who has waited for `waited` ns; and is gone. */
void pool_started(struct pool *p, int64_t ns);
void pool_gave(struct pool *p, const struct image *im, int64_t waited);
void pool_lost(struct pool *p, const struct image *im);
/* The start of one has failed, or its service has ended soon and before anybody had it. */
void pool_failed(struct pool *p, const struct instance *clone);

/* What is its place in the pool good for? Dead: its service has ended, and its holder has not let go of it. */
enum clone_kind { CLONE_EMPTY, CLONE_FAILED, CLONE_STARTING, CLONE_READY, CLONE_HELD, CLONE_DEAD, CLONE_ENDING };
enum clone_kind pool_clone_kind(const struct instance *clone);

/* How many there are of each kind. */
struct pool_count {
	unsigned ready, starting, held, ending;
};
struct pool_count pool_count(const struct pool *p);
/* The hand-out time that the part `share` (0 to 1) of the last ones did not exceed; ns, 0: there was none. */
int64_t pool_handout(const struct pool *p, double share);
/* What is told of the front. */
const char *pool_state_name(const struct pool *p);
