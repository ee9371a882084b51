/* SPDX-License-Identifier: MIT */
/*
 * Timers, in a heap: starting and stopping one takes O(log n), whatever the others are. Those that are due at the same time come in
 * the order in which they were started. A timer of zeroes is not running; its memory is its owner's, who stops it before it goes.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct timers;

struct timer {
	struct timers *timers; /* that it runs in; NULL: it does not */
	size_t place;	       /* in their heap */
	uint64_t order;
	int64_t deadline; /* clock_now() */
	void (*fn)(void *arg);
	void *arg;
};

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg);
/* Also one that runs already: then it is due at the new time. */
void timer_start(struct loop *l, struct timer *t, int64_t deadline);
/* After so many ns from now. */
void timer_start_in(struct loop *l, struct timer *t, int64_t delay);
void timer_stop(struct timer *t);
bool timer_is_running(const struct timer *t);

/* For the loop. */
struct timers {
	struct timer **heap;
	size_t n, room;
	uint64_t last_order;
};

void timers_deinit(struct timers *ts);
/* The time of the first one; false: there is none. */
bool timers_next(const struct timers *ts, int64_t *deadline);
/* Stops and calls those that were due at `now`; when that has taken `most` ns, the others are left for the next time. */
void timers_run(struct timers *ts, int64_t now, int64_t most);
