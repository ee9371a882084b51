/* SPDX-License-Identifier: MIT */
/*
 * The worker: one thread for what may take long and needs nothing of the daemon, such as removing a tree. Jobs are done one after the
 * other. Where there can be no thread, they are done by the loop.
 *
 * Promises: `work` sees nothing but its argument; `done` comes from the loop, once, in the order of the jobs; worker_free() waits until
 * all of them are done, and then no `done` comes any more.
 */
#pragma once

#include "base/link.h"

struct loop;
struct worker;

struct work_item {
	struct link link;
	void (*work)(void *arg); /* in the thread */
	void (*done)(void *arg); /* in the loop, or at the end of the worker */
	void *arg;
};

struct worker *worker_new(struct loop *l);
/* NULL: there is none any more, and it is done here and now. */
void worker_add(struct worker *w, struct work_item *item);
/* Until everything is done. For the start and the end of the daemon: the loop stands still. */
void worker_wait(struct worker *w);
struct worker *worker_free(struct worker *w);
/* It is at something that may never end, and nobody waits for that: no `done` comes any more, and what it is at is the thread's. */
void worker_abandon(struct worker *w);
