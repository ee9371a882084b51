/* SPDX-License-Identifier: MIT */
/* A binary heap of pointers; each timer knows its place in it. */
#include "fixd/loop/timer.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fixd/loop/backend.h"

static bool comes_before(const struct timer *a, const struct timer *b)
{
	return a->deadline != b->deadline ? a->deadline < b->deadline : a->order < b->order;
}

static void timer_put(struct timers *ts, size_t place, struct timer *t)
{
	ts->heap[place] = t;
	t->place = place;
}

static void sift_up(struct timers *ts, size_t place, struct timer *t)
{
	for (; place > 0 && comes_before(t, ts->heap[(place - 1) / 2]); place = (place - 1) / 2)
		timer_put(ts, place, ts->heap[(place - 1) / 2]);
	timer_put(ts, place, t);
}

static void timer_sift_down(struct timers *ts, size_t place, struct timer *t)
{
	for (size_t child; (child = 2 * place + 1) < ts->n; place = child) {
		if (child + 1 < ts->n && comes_before(ts->heap[child + 1], ts->heap[child]))
			child++;
		if (!comes_before(ts->heap[child], t))
			break;
		timer_put(ts, place, ts->heap[child]);
	}
	timer_put(ts, place, t);
}

void timer_init(struct timer *t, void (*fn)(void *arg), void *arg)
{
	*t = (struct timer){ .fn = fn, .arg = arg };
}

bool timer_is_running(const struct timer *t)
{
	return t->timers != NULL;
}

void timer_stop(struct timer *t)
{
	struct timers *ts = t->timers;
	struct timer *last;

	if (!ts)
		return;
	t->timers = NULL;
	last = ts->heap[--ts->n];
	if (last == t)
		return;
	if (t->place > 0 && comes_before(last, ts->heap[(t->place - 1) / 2]))
		sift_up(ts, t->place, last);
	else
		timer_sift_down(ts, t->place, last);
}

void timer_start(struct loop *l, struct timer *t, int64_t deadline)
{
	struct timers *ts = &l->timers;

	timer_stop(t);
	if (ts->n == ts->room) {
		ts->room = ts->room ? 2 * ts->room : 64;
		ts->heap = xrealloc(ts->heap, ts->room * sizeof(struct timer *));
	}
	t->timers = ts;
	t->deadline = deadline;
	t->order = ++ts->last_order;
	sift_up(ts, ts->n++, t);
}

void timer_start_in(struct loop *l, struct timer *t, int64_t delay)
{
	timer_start(l, t, clock_now() + delay);
}

bool timers_next(const struct timers *ts, int64_t *deadline)
{
	if (ts->n)
		*deadline = ts->heap[0]->deadline;
	return ts->n > 0;
}

void timers_run(struct timers *ts, int64_t now, int64_t most)
{
	/* One that is started again by what it calls is for the next turn, whatever the clock says. */
	uint64_t last = ts->last_order;

	while (ts->n && ts->heap[0]->deadline <= now && ts->heap[0]->order <= last) {
		struct timer *t = ts->heap[0];

		timer_stop(t);
		t->fn(t->arg);
		if (clock_now() - now >= most)
			return;
	}
}

void timers_deinit(struct timers *ts)
{
	while (ts->n)
		timer_stop(ts->heap[ts->n - 1]);
	free(ts->heap);
}
