/* SPDX-License-Identifier: MIT */
/* The timers of the loop: in order, whatever is started and stopped between. */
#include <stdlib.h>

#include "base/alloc.h"
#include "fixd/loop/backend.h"
#include "tap.h"

static struct loop loop;
static uint64_t calls;
static int64_t last_deadline;
static uint64_t last_order;
static bool in_order;

struct counted {
	struct timer timer;
	unsigned called;
};

static void on_time(void *arg)
{
	struct counted *c = arg;

	in_order &= c->timer.deadline > last_deadline || (c->timer.deadline == last_deadline && c->timer.order > last_order);
	last_deadline = c->timer.deadline;
	last_order = c->timer.order;
	c->called++;
	calls++;
}

static void timers_come_in_order(void)
{
	enum { N = 1000 };
	struct counted *all = xcalloc(N, sizeof *all);
	unsigned wrong = 0;
	int64_t first;

	srand(1);
	in_order = true;
	last_deadline = -1;
	for (size_t k = 0; k < N; k++)
		timer_init(&all[k].timer, on_time, &all[k]);
	for (size_t k = 0; k < 20 * N; k++) {
		struct counted *c = &all[(size_t)rand() % N];

		if (rand() % 3)
			timer_start(&loop, &c->timer, rand() % 100);
		else
			timer_stop(&c->timer);
	}
	for (size_t k = 0; k < N; k++)
		all[k].called = timer_is_running(&all[k].timer) ? 0 : 100;
	for (int64_t now = 0; now < 100; now += 7)
		timers_run(&loop.timers, now, INT64_MAX);
	timers_run(&loop.timers, 100, INT64_MAX);
	for (size_t k = 0; k < N; k++)
		wrong += (all[k].called != 1 && all[k].called != 100) || timer_is_running(&all[k].timer);
	check(in_order && calls > 0);
	check(wrong == 0);
	check(!timers_next(&loop.timers, &first));
	free(all);
}

static struct timer again;
static unsigned n_again;

static void start_again(void *arg)
{
	(void)arg;
	n_again++;
	timer_start(&loop, &again, 0);
}

static void one_that_starts_itself_again_comes_later(void)
{
	timer_init(&again, start_again, NULL);
	timer_start(&loop, &again, 0);
	timers_run(&loop.timers, 10, INT64_MAX);
	check(n_again == 1 && timer_is_running(&again));
	timers_run(&loop.timers, 10, INT64_MAX);
	check(n_again == 2);
	timers_deinit(&loop.timers);
	check(!timer_is_running(&again));
}

static const struct tap_test tests[] = { TAP_TEST(timers_come_in_order), TAP_TEST(one_that_starts_itself_again_comes_later) };
TAP_MAIN(tests)
