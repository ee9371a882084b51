/* SPDX-License-Identifier: MIT */
/* Clones: who gets which, and how many are started ahead. */
#include <errno.h>

#include "base/clock.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/reclaim.h"
#include "tests/tap.h"
#include "asker.h"

#define INI "[fixd]\nroot = /\nmemory-max = 80K\n[policy]\nmax-age = none\n"
#define PG "[fixture data]\ntree = true\nwatch = 0\n[fixture pg]\nservice = true\nready = line\ndata = data\nclones = 3\n"

static struct instance *begin(const char *ini)
{
	world_begin(ini);
	return world_instance("pg", NULL);
}

/* What is asked of the world now: all of it is done. */
static void finish_all(void)
{
	while (world.n_jobs)
		finish(1);
}

static bool counts(const struct instance *front, unsigned ready, unsigned starting, unsigned held)
{
	struct pool_count n = pool_count(front->pool);

	return n.ready == ready && n.starting == starting && n.held == held;
}

static const struct image *held_by(const struct asker *a)
{
	return link_empty(&a->leases) ? NULL : link_entry(a->leases.next, struct lease, in_client)->image;
}

static struct instance *ready_of(const struct instance *front)
{
	for (size_t k = 0; k < front->pool->clones.n; k++) {
		if (pool_clone_kind(front->pool->clones.all[k]) == CLONE_READY)
			return front->pool->clones.all[k];
	}
	return NULL;
}

static void one_for_each_holder(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[4];

	ask(&a[0], pg);
	finish(1); /* the data */
	/* One for who asks, and nothing ahead while it waits. */
	check(counts(pg, 0, 1, 0));
	check_int(world.n_jobs, 1);
	finish(1);
	check_int(a[0].outcome, OUTCOME_READY);
	/* And one ahead, for whoever comes next: not more. */
	check(counts(pg, 0, 1, 1));
	finish_all();
	check(counts(pg, 1, 0, 1));
	ask(&a[1], pg);
	check_int(a[1].answers, 1);
	check(held_by(&a[0]) != held_by(&a[1]));
	ask(&a[2], pg);
	check_int(a[2].answers, 0);
	finish_all();
	check_int(a[2].answers, 1);
	/* As many as there may be. */
	ask(&a[3], pg);
	check(counts(pg, 0, 0, 3));
	check_int(world.n_jobs, 0);
	let_go(&a[1]);
	check_int(world.jobs[0].what, JOB_OF_TEARDOWN);
	finish(1);
	finish_all();
	check_int(a[3].answers, 1);
	for (int k = 0; k < 4; k++)
		let_go(&a[k]);
	world_end();
}

static void nobody_gets_a_used_one(void)
{
	struct instance *pg = begin(INI PG);
	uint64_t seen[40] = { 0 };
	struct asker a;

	for (int k = 0; k < 40; k++) {
		ask(&a, pg);
		finish_all();
		check_int(a.outcome, OUTCOME_READY);
		seen[k] = held_by(&a)->serial;
		for (int m = 0; m < k; m++)
			check(seen[m] != seen[k]);
		let_go(&a);
		/* Also while what was given back is still being torn down. */
		if (k % 2)
			finish_all();
	}
	world_end();
}

static void those_who_wait_are_served_in_order(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[10];
	int served = 0;

	for (int k = 0; k < 10; k++)
		ask(&a[k], pg);
	finish_all();
	for (served = 3; served < 10; served++) {
		check_int(a[served - 1].answers, 1);
		check_int(a[served].answers, 0);
		let_go(&a[served - 3]);
		finish_all();
	}
	check_int(a[9].answers, 1);
	for (int k = 7; k < 10; k++)
		let_go(&a[k]);
	world_end();
}

/* The first of them has the data made. */
static void ask_all(struct asker *a, int n, struct instance *pg)
{
	ask(&a[0], pg);
	finish(1);
	for (int k = 1; k < n; k++)
		ask(&a[k], pg);
}

/* Whichever of them it was begun for. */
static void the_first_that_is_ready_is_for_the_first(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[2];

	ask_all(a, 2, pg);
	check(counts(pg, 0, 2, 0));
	world_finish(1, 1);
	world_turn();
	check_int(a[0].answers, 1);
	check_int(a[1].answers, 0);
	finish_all();
	check_int(a[1].answers, 1);
	let_go(&a[0]);
	let_go(&a[1]);
	world_end();
}

static void one_that_fails_is_told_to_one(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[5];

	ask_all(a, 5, pg);
	check(counts(pg, 0, 3, 0));
	world_fail(2);
	world_turn();
	check_int(a[0].outcome, OUTCOME_FAILED);
	for (int k = 1; k < 5; k++)
		check_int(a[k].answers, 0);
	finish(1);
	finish(1);
	check_int(a[1].outcome, OUTCOME_READY);
	check_int(a[2].outcome, OUTCOME_READY);
	finish_all();
	check_int(a[3].outcome, OUTCOME_READY);
	let_go(&a[1]);
	finish_all();
	check_int(a[4].outcome, OUTCOME_READY);
	for (int k = 2; k < 5; k++)
		let_go(&a[k]);
	world_end();
}

static void what_nobody_waits_for_any_more_is_not_begun(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[3];

	for (int k = 0; k < 3; k++)
		ask(&a[k], pg);
	check(counts(pg, 0, 3, 0));
	check_int(world.n_jobs, 1); /* the data */
	waiter_cancel(&a[0].waiter);
	waiter_cancel(&a[2].waiter);
	world_turn();
	check(counts(pg, 0, 1, 0));
	finish_all();
	check_int(a[1].outcome, OUTCOME_READY);
	check_int(a[0].answers + a[2].answers, 0);
	check(counts(pg, 1, 0, 1));
	let_go(&a[1]);
	world_end();
}

/* Three, so often, and each time all of them let go. */
static void come_together(struct instance *pg, int times)
{
	struct asker a[3];

	while (times-- > 0) {
		for (int k = 0; k < 3; k++)
			ask(&a[k], pg);
		finish_all();
		for (int k = 0; k < 3; k++)
			let_go(&a[k]);
		finish_all();
	}
}

static void as_many_ahead_as_are_taken(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[3];

	for (int round = 0; round < 3; round++) {
		for (int k = 0; k < 3; k++) {
			ask(&a[k], pg);
			finish_all();
		}
		for (int k = 0; k < 3; k++)
			let_go(&a[k]);
		finish_all();
		check(counts(pg, pg->pool->wanted, 0, 0));
	}
	check_int(pg->pool->wanted, 1); /* one was ready each time */
	/* Those who come together find too few: more are kept. */
	come_together(pg, 3);
	check(counts(pg, 3, 0, 0));
	/* Nobody comes. */
	world_pass(POOL_IDLE);
	finish_all();
	check(counts(pg, 2, 0, 0));
	world_pass(10 * POOL_IDLE);
	finish_all();
	check(counts(pg, 1, 0, 0));
	world_end();
}

static void what_fails_is_told_and_tried_later(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a;

	ask(&a, pg);
	finish(1);
	world_fail(0);
	world_turn();
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(world.n_jobs, 0);
	/* The same to whoever comes soon. */
	ask(&a, pg);
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(world.n_jobs, 0);
	for (int64_t wait = 100 * NSEC_PER_MSEC; wait < 3 * NSEC_PER_SEC; wait *= 2) {
		/* Nobody asks: it is tried ahead, and fails again. */
		world_pass(wait + 1);
		check_int(world.n_jobs, 1);
		world_fail(0);
		world_turn();
		check_int(world.n_jobs, 0);
	}
	world_pass(10 * NSEC_PER_SEC);
	check_int(world.n_jobs, 1);
	finish(1);
	check(counts(pg, 1, 0, 0));
	ask(&a, pg);
	check_int(a.outcome, OUTCOME_READY);
	check_int(pg->pool->failures, 0);
	finish_all();
	let_go(&a);
	world_end();
}

static void one_that_dies_before_it_is_given_is_replaced(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a;

	ask(&a, pg);
	finish_all();
	world_kill(ready_of(pg));
	world_turn();
	finish_all();
	/* Not at once: it has died soon. */
	check(counts(pg, 0, 0, 1));
	world_pass(NSEC_PER_SEC);
	finish_all();
	check(counts(pg, 1, 0, 1));
	let_go(&a);
	world_end();
}

static void other_data_is_for_new_ones(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a, b;
	const struct image *old;

	ask(&a, pg);
	finish_all();
	old = held_by(&a);
	check(counts(pg, 1, 0, 1));
	world_edit(0);
	ask(&b, pg);
	finish(2);
	finish_all();
	check_int(b.outcome, OUTCOME_READY);
	check(held_by(&a) == old && held_by(&b) != old);
	check_int(world_seen(held_by(&b), 0), 1);
	let_go(&a);
	let_go(&b);
	world_end();
}

static size_t job_of(enum job_kind_of what)
{
	size_t k = 0;

	while (k < world.n_jobs && world.jobs[k].what != what)
		k++;
	return k;
}

/* Then one is ready, and nobody has any. */
static void use_once(struct instance *pg)
{
	struct asker a;

	ask(&a, pg);
	finish_all();
	let_go(&a);
	finish_all();
	check(counts(pg, 1, 0, 0));
}

static void nobody_waits_for_the_end_of_what_is_stale(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a;

	use_once(pg);
	world_edit(0);
	ask(&a, pg);
	finish(2); /* the data */
	check(job_of(JOB_OF_TEARDOWN) < world.n_jobs);
	world_finish(job_of(JOB_OF_BUILD), 1);
	world_turn();
	check_int(a.outcome, OUTCOME_READY);
	check_int(world_seen(held_by(&a), 0), 1);
	check(job_of(JOB_OF_TEARDOWN) < world.n_jobs);
	finish_all();
	let_go(&a);
	world_end();
}

static void room_is_made_by_those_that_are_ready(void)
{
	struct instance *pg = begin(INI PG);

	use_once(pg);
	check_int(reclaim_memory(world.model, 80 * 1024), -EAGAIN);
	world_turn();
	finish_all();
	/* Nothing takes its place before somebody asks. */
	check(counts(pg, 0, 0, 0));
	world_pass(10 * POOL_IDLE);
	check_int(world.n_jobs, 0);
	world_end();
}

static void a_chain_for_each_holder(void)
{
	struct instance *app;
	struct asker a, b;

	world_begin(INI PG "[fixture schema]\ncommand = true\ndepends = pg\n[fixture app]\ncommand = true\ndepends = pg, schema\n");
	app = world_instance("app", NULL);
	ask(&a, app);
	finish_all();
	ask(&b, app);
	finish_all();
	check(held_by(&a) && held_by(&b));
	check(held_by(&a)->teardown_deps[0] != held_by(&b)->teardown_deps[0]);
	/* In one chain there is one of each. */
	check(held_by(&a)->teardown_deps[1]->teardown_deps[0] == held_by(&a)->teardown_deps[0]);
	check_string(held_by(&a)->teardown_deps[0]->title, "pg in app/1");
	let_go(&a);
	check_int(world.n_jobs > 0 && world.jobs[0].what == JOB_OF_TEARDOWN, 1);
	finish_all();
	check_int(b.answers, 1);
	let_go(&b);
	finish_all();
	world_end();
}

static void a_build_that_fails_gives_its_clone_back(void)
{
	struct instance *app;
	struct asker a;

	world_begin(INI PG "[fixture app]\ncommand = true\ndepends = pg\n");
	app = world_instance("app", NULL);
	ask(&a, app);
	finish(1); /* the data */
	finish(1); /* pg */
	world_fail(0);
	world_turn();
	check_int(a.outcome, OUTCOME_FAILED);
	/* Whatever it has done to it. */
	check_int(world.jobs[0].what, JOB_OF_TEARDOWN);
	finish(1);
	world_end();
}

/* Neither for want of what it needs of its own for ever, nor as fast as it can die. */
static void what_a_chain_needs_fails_and_is_tried_later(void)
{
	struct instance *app, *pg;
	struct asker a;

	world_begin(INI PG "[fixture app]\ncommand = true\ndepends = pg\n");
	app = world_instance("app", NULL);
	ask(&a, app);
	finish(1); /* the data */
	world_fail(0);
	world_turn();
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(world.n_jobs, 0);
	world_pass(100 * NSEC_PER_MSEC + 1);
	finish_all();
	check(counts(app, 1, 0, 0));
	ask(&a, app);
	check_int(a.outcome, OUTCOME_READY);
	pg = held_by(&a)->teardown_deps[0]->instance;
	let_go(&a);
	finish_all();
	check(counts(app, 1, 0, 0) && pg->clone);
	for (int k = 0; k < 3; k++) {
		world_kill(ready_of(app)->current->teardown_deps[0]->instance);
		world_turn();
		finish_all();
		check(counts(app, 0, 0, 0));
		world_pass((100 << k) * NSEC_PER_MSEC + 1);
		finish_all();
		check(counts(app, 1, 0, 0));
	}
	world_end();
}

static void what_is_too_old_is_not_built_again_for_nobody(void)
{
	struct instance *pg = begin("[fixd]\nroot = /\n[policy]\nmax-age = 60\n" PG);
	unsigned builds;
	struct asker a;

	use_once(pg);
	builds = world_instance("data", NULL)->builds;
	world_pass(61 * NSEC_PER_SEC);
	finish_all();
	world_pass(61 * NSEC_PER_SEC);
	finish_all();
	check(counts(pg, 0, 0, 0));
	check_int(world_instance("data", NULL)->builds, builds);
	/* Who asks has one, and others are kept ready again. */
	ask(&a, pg);
	finish_all();
	check_int(a.outcome, OUTCOME_READY);
	check(counts(pg, 2, 0, 1));
	let_go(&a);
	finish_all();
	world_end();
}

#define WATCHED INI "[fixture pg]\nservice = true\nready = line\nwatch = 1\nclones = 3\n"

/* So often in a row, the first time for somebody. */
static void fail_ahead(struct instance *pg, int times)
{
	struct asker a;

	ask(&a, pg);
	world_fail(0);
	world_turn();
	check_int(a.outcome, OUTCOME_FAILED);
	for (int64_t wait = 100 * NSEC_PER_MSEC; times-- > 0; wait *= 2) {
		world_pass(wait + 1);
		world_fail(0);
		world_turn();
	}
}

static void an_edit_is_an_end_of_waiting(void)
{
	struct instance *pg = begin(WATCHED);
	struct asker a;

	fail_ahead(pg, 7);
	ask(&a, pg);
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(world.n_jobs, 0);
	world_edit(1);
	ask(&a, pg);
	check_int(a.answers, 0);
	finish(1);
	check_int(a.outcome, OUTCOME_READY);
	finish_all();
	let_go(&a);
	world_end();
}

/* Not one more for each that has failed. */
static void never_more_than_clones(void)
{
	struct instance *pg = begin(WATCHED);
	struct asker a[4];

	fail_ahead(pg, 4);
	check_int(pg->pool->clones.n, 1);
	world_pass(60 * NSEC_PER_SEC);
	for (int k = 0; k < 4; k++) {
		ask(&a[k], pg);
		finish_all();
	}
	check(counts(pg, 0, 0, 3));
	check_int(a[3].answers, 0);
	for (int k = 0; k < 3; k++)
		let_go(&a[k]);
	finish_all();
	let_go(&a[3]);
	world_end();
}

/* It began before the data was edited twice, and was wrong in between; who asks now has nothing to do with that. */
static void what_was_begun_before_is_no_answer(void)
{
	struct instance *pg = begin(INI PG), *data = world_instance("data", NULL);
	struct asker a, b, c;

	ask(&a, pg);
	finish(1);
	finish(1);
	check(counts(pg, 0, 1, 1));
	world_edit(0);
	ask(&b, data);
	world_fail(1);
	world_turn();
	check_int(b.outcome, OUTCOME_FAILED);
	world_edit(0);
	ask(&c, pg);
	world_finish(0, 1);
	world_turn();
	check_int(c.answers, 0);
	finish_all();
	check_int(c.outcome, OUTCOME_READY);
	check_int(world_seen(held_by(&c), 0), 2);
	let_go(&a);
	let_go(&c);
	world_end();
}

static void a_spare_that_fails_is_told_to_nobody(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[3];

	for (int round = 0; round < 3; round++) {
		for (int k = 0; k < 3; k++)
			ask(&a[k], pg);
		finish_all();
		for (int k = 0; k < 3; k++)
			let_go(&a[k]);
		for (int k = 0; k < 3; k++)
			world_finish(job_of(JOB_OF_TEARDOWN), 1);
		world_turn();
		if (round < 2)
			finish_all();
	}
	check(counts(pg, 0, 3, 0));
	ask(&a[0], pg);
	world_fail(0);
	world_turn();
	check_int(a[0].answers, 0);
	finish_all();
	check_int(a[0].outcome, OUTCOME_READY);
	let_go(&a[0]);
	world_end();
}

static void one_look_for_each_who_asks(void)
{
	struct instance *pg = begin(INI PG "check = true\n");
	struct asker a;

	come_together(pg, 2);
	check(counts(pg, 3, 0, 0));
	ask(&a, pg);
	check_int(world.n_jobs, 1);
	check_int(world.jobs[0].what, JOB_OF_CHECK);
	finish_all();
	let_go(&a);
	finish_all();
	/* One at a time was enough. */
	for (int k = 0; k < 2; k++) {
		world_pass(POOL_IDLE);
		finish_all();
	}
	check_int(pg->pool->wanted, 1);
	for (int k = 0; k < 3; k++) {
		ask(&a, pg);
		finish_all();
		let_go(&a);
		finish_all();
	}
	check_int(pg->pool->wanted, 1);
	world_end();
}

static void what_many_wait_for_is_no_surplus(void)
{
	static struct asker a[100];
	struct instance *pg;
	int answered = 0;

	world_begin("[fixd]\nroot = /\n[policy]\nmax-age = none\n[fixture pg]\nservice = true\nready = line\nclones = 100\n");
	pg = world_instance("pg", NULL);
	for (int k = 0; k < 100; k++)
		ask(&a[k], pg);
	while (world.n_jobs)
		world_finish(0, 1);
	world_turn();
	for (int k = 0; k < 100; k++)
		answered += a[k].answers;
	check_int(answered, 100);
	for (int k = 0; k < 100; k++)
		let_go(&a[k]);
	finish_all();
	world_end();
}

static void one_that_has_failed_waits_for_no_other(void)
{
	struct instance *pg = begin(INI PG);
	struct asker a[4];

	ask_all(a, 4, pg);
	world_fail(0);
	world_turn();
	check(counts(pg, 0, 2, 0));
	world_pass(NSEC_PER_SEC);
	check(counts(pg, 0, 3, 0));
	finish_all();
	for (int k = 1; k < 4; k++) {
		check_int(a[k].outcome, OUTCOME_READY);
		let_go(&a[k]);
	}
	world_end();
}

static const struct tap_test tests[] = {
	TAP_TEST(one_for_each_holder),
	TAP_TEST(nobody_gets_a_used_one),
	TAP_TEST(those_who_wait_are_served_in_order),
	TAP_TEST(the_first_that_is_ready_is_for_the_first),
	TAP_TEST(one_that_fails_is_told_to_one),
	TAP_TEST(what_nobody_waits_for_any_more_is_not_begun),
	TAP_TEST(as_many_ahead_as_are_taken),
	TAP_TEST(what_fails_is_told_and_tried_later),
	TAP_TEST(one_that_dies_before_it_is_given_is_replaced),
	TAP_TEST(other_data_is_for_new_ones),
	TAP_TEST(nobody_waits_for_the_end_of_what_is_stale),
	TAP_TEST(room_is_made_by_those_that_are_ready),
	TAP_TEST(a_chain_for_each_holder),
	TAP_TEST(a_build_that_fails_gives_its_clone_back),
	TAP_TEST(what_a_chain_needs_fails_and_is_tried_later),
	TAP_TEST(what_is_too_old_is_not_built_again_for_nobody),
	TAP_TEST(an_edit_is_an_end_of_waiting),
	TAP_TEST(never_more_than_clones),
	TAP_TEST(what_was_begun_before_is_no_answer),
	TAP_TEST(a_spare_that_fails_is_told_to_nobody),
	TAP_TEST(one_look_for_each_who_asks),
	TAP_TEST(what_many_wait_for_is_no_surplus),
	TAP_TEST(one_that_has_failed_waits_for_no_other),
};

TAP_MAIN(tests)
