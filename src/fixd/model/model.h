/* SPDX-License-Identifier: MIT */
/*
 * The model: what sessions, instances, images, runs and users have in common. It opens nothing and waits for nothing; what it wants done
 * it asks of `effects`, and what happens outside is told to it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "fixd/loop/deferred.h"
#include "fixd/model/account.h"
#include "fixd/model/effect.h"

struct config;
struct events;
struct image_owner;
struct region;
struct session;
struct work;

struct model {
	struct config *config;
	struct loop *loop; /* of its timers and deferred calls */
	const struct effects *effects;
	struct work *work; /* who performs them */
	const struct image_owner *image_owner;
	struct deferred changed; /* something that is kept over restarts */
	/* Who holds what may not be torn down under it: told before anybody hears of that. */
	void (*on_hold)(void *arg, const struct image *im, pid_t pid, bool holds);
	void *on_hold_arg;
	struct region *region;
	struct events *events;
	bool events_followed;	     /* by anybody: */
	struct deferred event_added; /* who follows them is to look */
	struct link sessions;	     /* session::link; the newest last */
	struct session *session;     /* of the ini file: the first of them. NULL: everything ends */
	struct link users;	     /* user::link */
	struct link detached;	     /* image::in_detached: of no instance, not yet or not any more */
	struct link unused;	     /* image::in_unused: current, and nobody uses them; the least recently used first */
	uint64_t unused_bytes;	     /* of those, and of those of users */
	struct link mem_waiters;     /* mem_waiter::link */
	uint64_t last_serial;
	uint64_t last_clone; /* number of the newest clone of a pool */
	uint64_t last_mark;  /* instance::mark */
	uint64_t n_resolutions;
	struct account account;
	uid_t uid;		/* the daemon's own, which no limit holds for; nor for root */
	size_t descriptors_max; /* of images and keepers */
	uint64_t hits, misses, failures, evictions, teardown_failures;
	char *unsandboxed; /* why the first service that had none got no sandbox; or NULL */
	bool stopping;
	bool restarting; /* no build is begun */
	bool loading;	 /* the state of the daemon before this one: no run ends yet, and nothing is used anew */
};

static inline void model_changed(struct model *m)
{
	loop_defer(m->loop, &m->changed);
}

/* The time, in ns: one that never jumps, and that of people. */
static inline int64_t model_now(const struct model *m)
{
	return m->effects->now();
}

static inline int64_t model_real(const struct model *m)
{
	return m->effects->real();
}

/* With `config`, `loop`, `effects`, `work` and `uid` set; `changed` and `event_added` are for others to set. */
void model_init(struct model *m);
