/* SPDX-License-Identifier: MIT */
/* The decisions of the model, one at a time: what is fresh, what is built, who waits for whom, what is given up. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "fixd/model/client.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "tests/tap.h"
#include "asker.h"
#include "world.h"

#define INI "[fixd]\nroot = /\nmemory-max = 80K\n[policy]\nmax-age = none\n"

static void one_build_for_all_who_ask(void)
{
	struct asker all[5];
	struct instance *i;

	world_begin(INI "[fixture f]\ncommand = true\n");
	i = world_instance("f", NULL);
	for (int k = 0; k < 5; k++)
		ask(&all[k], i);
	check_int(world.n_jobs, 1);
	finish(1);
	check_int(world.n_jobs, 0);
	for (int k = 0; k < 5; k++) {
		check_int(all[k].answers, 1);
		check_int(all[k].outcome, OUTCOME_READY);
	}
	check_int(i->current->n_leases, 5);
	for (int k = 0; k < 5; k++)
		let_go(&all[k]);
	world_end();
}

/* What an image is judged by, for somebody who asks after `what` has happened. */
struct judged {
	const char *name, *settings;
	void (*what)(struct instance *i);
	enum verdict verdict;
	const char *cause;
};

static void nothing(struct instance *i)
{
	(void)i;
}

/* Nobody was told of it yet. */
static void edit(struct instance *i)
{
	(void)i;
	world.stamps[0]++;
}

static void edit_another(struct instance *i)
{
	(void)i;
	world.stamps[1]++;
}

static void wait_4_s(struct instance *i)
{
	(void)i;
	world.now += 4 * NSEC_PER_SEC; /* without its timers */
}

static void wait_6_s(struct instance *i)
{
	(void)i;
	world.now += 6 * NSEC_PER_SEC;
}

static void use_after_4_s(struct instance *i)
{
	wait_4_s(i);
	image_used(i->current);
	wait_4_s(i);
}

static void other_section(struct instance *i)
{
	i->current->section.low++;
}

static void look_slowly(struct instance *i)
{
	(void)i;
	world.slow_looks = true;
}

static void soil(struct instance *i)
{
	i->current->dirty = true;
}

static const struct judged table[] = {
	{ "nothing has happened", "", nothing, VERDICT_FRESH, NULL },
	{ "an input was edited", "watch = 0\n", edit, VERDICT_STALE, "0 changed" },
	{ "an input was edited, by content", "watch = 0\nwatch-by = content\n", edit, VERDICT_COMPARE_BYTES, "0 changed" },
	{ "another file was edited", "watch = 0\n", edit_another, VERDICT_FRESH, NULL },
	{ "the look is not over", "watch = 0\n", look_slowly, VERDICT_LOOK_ON, NULL },
	{ "younger than max-age", "max-age = 5s\n", wait_4_s, VERDICT_FRESH, NULL },
	{ "older than max-age", "max-age = 5s\n", wait_6_s, VERDICT_STALE, "max-age: 6.00 s since it was built, allowed are 5.00 s" },
	{ "used meanwhile, from creation", "max-age = 5s\n", use_after_4_s, VERDICT_STALE,
	  "max-age: 8.00 s since it was built, allowed are 5.00 s" },
	{ "used meanwhile, from last use", "max-age = 5s\nage-from = last-use\n", use_after_4_s, VERDICT_FRESH, NULL },
	{ "not used, from last use", "max-age = 5s\nage-from = last-use\n", wait_6_s, VERDICT_STALE,
	  "max-age: 6.00 s since its last use, allowed are 5.00 s" },
	{ "its section is another one", "", other_section, VERDICT_STALE, "its section in the ini file changed" },
	{ "a check decides", "check = true\n", nothing, VERDICT_RUN_CHECK, NULL },
	{ "an edit decides before the check", "check = true\nwatch = 0\n", edit, VERDICT_STALE, "0 changed" },
	{ "age decides before the edit", "max-age = 5s\nwatch = 0\nwatch-by = content\n", wait_6_s, VERDICT_STALE,
	  "max-age: 6.00 s since it was built, allowed are 5.00 s" },
};

static void what_is_fresh(void)
{
	for (size_t k = 0; k < ELEMENTSOF(table); k++) {
		const struct judged *t = &table[k];
		char ini[500], *cause = NULL;
		struct instance *i;
		enum verdict v;

		snprintf(ini, sizeof ini, INI "[fixture f]\ncommand = true\n%s", t->settings);
		world_begin(ini);
		i = world_instance("f", NULL);
		instance_warm(i);
		finish(1);
		world.now++;
		t->what(i);
		v = policy_judge(i, world.now, &cause);
		if (v != t->verdict || (cause != NULL) != (t->cause != NULL) || (cause && strcmp(cause, t->cause) != 0))
			printf("# %s: verdict %d, %s\n", t->name, v, cause ? cause : "no cause");
		check_int(v, t->verdict);
		check((cause != NULL) == (t->cause != NULL) && (!cause || !strcmp(cause, t->cause)));
		free(cause);
		world_end();
	}
}

static void what_was_used_is_reset(void)
{
	struct asker a, b;
	struct instance *i;
	char *cause = NULL;

	world_begin(INI "[fixture s]\nservice = true\nready = line\nexclusive = yes\nreset = true\n");
	i = world_instance("s", NULL);
	ask(&a, i);
	finish(1);
	soil(i);
	ask(&b, i);
	check_int(b.answers, 0); /* somebody else holds it */
	check_int(world.n_jobs, 0);
	let_go(&a);
	check(is_next(JOB_OF_CHECK, i) && world.jobs[0].verdict == VERDICT_RUN_RESET);
	finish(1);
	check_int(b.outcome, OUTCOME_READY);
	check(policy_judge(i, world.now, &cause) != VERDICT_RUN_RESET);
	let_go(&b);
	world_end();
}

static void a_check_that_passed_counts_for_who_asked_before(void)
{
	struct asker a, b;
	struct instance *i;

	world_begin(INI "[fixture f]\ncommand = true\ncheck = true\n");
	i = world_instance("f", NULL);
	instance_warm(i);
	finish(1);
	ask(&a, i);
	ask(&b, i);
	check_int(world.n_jobs, 1);
	finish(1);
	check_int(a.answers, 1);
	check_int(b.answers, 0); /* it asked after the check had begun */
	finish(1);
	check_int(b.answers, 1);
	check_int(world.n_built, 1);
	let_go(&a);
	let_go(&b);
	world_end();
}

static void dependencies_come_first_and_only_what_differs_is_built(void)
{
	struct instance *a, *b, *c;
	struct asker holder;

	world_begin(INI "[fixture a]\ncommand = true\nwatch = 0\n[fixture same]\ncommand = true\ndepends = a\n"
			"[fixture c]\ncommand = true\ndepends = same\n");
	a = world_instance("a", NULL);
	b = world_instance("same", NULL);
	c = world_instance("c", NULL);
	instance_warm(c);
	check(is_next(JOB_OF_BUILD, a));
	finish(1);
	check(is_next(JOB_OF_BUILD, b));
	finish(1);
	check(is_next(JOB_OF_BUILD, c));
	finish(1);
	ask(&holder, b);
	world_edit(0);
	instance_warm(c);
	check(is_next(JOB_OF_BUILD, a));
	finish(2);
	check_int(a->generation, 2);
	check(is_next(JOB_OF_BUILD, b));
	finish(2);
	/* The same bytes again: nothing that is made from them is built. */
	check_int(b->generation, 1);
	check_int(world.n_jobs, 0);
	check_int(c->state, INSTANCE_READY);
	let_go(&holder);
	world_end();
}

static void a_failure_is_kept_until_something_changes(void)
{
	struct asker a;
	struct instance *i;

	world_begin(INI "[fixture f]\ncommand = true\nwatch = 0\nretry-after = 1m\n");
	i = world_instance("f", NULL);
	ask(&a, i);
	world_fail(0);
	check_int(a.outcome, OUTCOME_FAILED);
	ask(&a, i);
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(world.n_jobs, 0);
	world_edit(0);
	ask(&a, i);
	check(is_next(JOB_OF_BUILD, i));
	world_fail(0);
	world_pass(61 * NSEC_PER_SEC);
	ask(&a, i);
	check(is_next(JOB_OF_BUILD, i));
	finish(1);
	check_int(a.outcome, OUTCOME_READY);
	let_go(&a);
	world_end();
}

static size_t job_for(const struct instance *i)
{
	size_t k = 0;

	while (k < world.n_jobs && world.jobs[k].instance != i)
		k++;
	check(k < world.n_jobs);
	return k;
}

/* It has failed for those who asked before, and is tried again for whoever asked later: also when both hear of it through the same. */
static void a_failure_is_for_those_who_asked_before(void)
{
	struct asker early, late;
	struct instance *a, *b, *c, *f;

	world_begin(INI "[fixture a]\ncommand = true\nwatch = 0\n"
			"[fixture b]\ncommand = true\nwatch = 1\ndepends = a\nrebuild = eager\n"
			"[fixture c]\ncommand = true\nwatch = 2\ndepends = b\n[fixture f]\ncommand = true\ndepends = c\n");
	a = world_instance("a", NULL), b = world_instance("b", NULL), c = world_instance("c", NULL), f = world_instance("f", NULL);
	ask(&early, f);
	finish(1);
	finish(1);
	check_int(c->state, INSTANCE_BUILDING);
	world_edit(1);
	world_fail(job_for(b));
	world_turn();
	ask(&late, c);
	world.slow_looks = true;
	world_edit(2);
	world_finish(job_for(c), 1);
	world_turn();
	check_int(a->state, INSTANCE_CHECKING);
	world_edit(0);
	world_finish(job_for(a), 1);
	world_turn();
	check_int(early.outcome, OUTCOME_FAILED);
	check_int(late.answers, 0);
	world_finish(job_for(a), 1);
	world_turn();
	world_finish(job_for(b), 1);
	world_turn();
	world_finish(job_for(c), 1);
	world_turn();
	check_int(late.answers, 1);
	check_int(late.outcome, OUTCOME_READY);
	let_go(&late);
	world_end();
}

/* Though what depends on it is there, and does not wait. */
static void what_has_failed_does_not_wait(void)
{
	struct asker a;
	struct instance *d, *i;

	world_begin(INI "[fixture d]\ncommand = true\nwatch = 0\nrebuild = eager\n[fixture i]\ncommand = true\ndepends = d\n");
	d = world_instance("d", NULL), i = world_instance("i", NULL);
	ask(&a, i);
	finish(1);
	finish(1);
	let_go(&a);
	world_edit(0);
	world_fail(job_for(d));
	world_turn();
	check_int(i->state, INSTANCE_READY);
	ask(&a, i);
	check_int(a.outcome, OUTCOME_FAILED);
	check_int(d->state, INSTANCE_FAILED);
	world_edit(0);
	check_int(d->state, INSTANCE_BUILDING);
	finish(2);
	world_end();
}

/* Nor does what was begun for a question that has failed by another dependency. */
static void what_nobody_needs_does_not_wait(void)
{
	struct instance *a, *c, *d;
	struct asker asker;

	world_begin(INI "[fixture e]\ncommand = true\n[fixture d]\ncommand = true\ndepends = e\n[fixture c]\ncommand = true\n"
			"[fixture a]\ncommand = true\ndepends = d, c\n");
	a = world_instance("a", NULL), c = world_instance("c", NULL), d = world_instance("d", NULL);
	ask(&asker, c);
	world_fail(0);
	world_turn();
	ask(&asker, a);
	check_int(asker.outcome, OUTCOME_FAILED);
	check_int(d->state, INSTANCE_ABSENT);
	finish(1);
	check_int(world.n_jobs, 0);
	world_end();
}

static void inputs_that_change_during_the_build(void)
{
	struct asker a;
	struct instance *i;

	world_begin(INI "[fixture f]\ncommand = true\nwatch = 0\n");
	i = world_instance("f", NULL);
	ask(&a, i);
	for (int k = 0; k < 3; k++) {
		check(is_next(JOB_OF_BUILD, i));
		check_int(a.answers, 0);
		world_edit(0);
		finish(1);
	}
	check_int(a.outcome, OUTCOME_FAILED);
	check_string(i->error, "its inputs changed during each of 3 builds; the last time 0 changed");
	world_end();
}

static void teardowns_in_reverse_order(void)
{
	struct instance *a, *b;
	struct image *of_a;

	world_begin(INI "[fixture a]\nservice = true\nready = line\n[fixture b]\nservice = true\nready = line\ndepends = a\n");
	a = world_instance("a", NULL);
	b = world_instance("b", NULL);
	instance_warm(b);
	finish(1);
	finish(1);
	of_a = a->current;
	instance_retire(a, "a test");
	instance_propagate(a);
	world_turn();
	check_int(b->state, INSTANCE_STALE);
	check_int(world.n_jobs, 1);
	check(world.jobs[0].what == JOB_OF_TEARDOWN && world.jobs[0].image != of_a);
	finish(1);
	check(world.jobs[0].what == JOB_OF_TEARDOWN && world.jobs[0].image == of_a);
	/* What is still being torn down comes before the next one. */
	instance_warm(a);
	world_turn();
	check_int(world.n_jobs, 1);
	finish(1);
	check(is_next(JOB_OF_BUILD, a));
	world_end();
}

static void the_least_recently_used_go_first(void)
{
	struct instance *i[5];
	struct asker a;

	world_begin(INI "[fixture f]\ncommand = true\nparams = 0, 1, 2, 3, 4\n");
	for (int k = 0; k < 5; k++) {
		i[k] = world_instance("f", (const char[]){ (char)('0' + k), 0 });
		instance_warm(i[k]);
		finish((uint64_t)k);
		world.now++;
	}
	ask(&a, i[0]);
	check_int(reclaim_memory(world.model, 50 * 1024), 0);
	check(i[0]->current && !i[1]->current && !i[2]->current); /* 40 of 80 KiB are in use, in pieces of 8 */
	check(i[4]->current);
	check_int(reclaim_memory(world.model, 80 * 1024), -EDQUOT);
	check(i[0]->current);
	let_go(&a);
	check_int(reclaim_memory(world.model, 80 * 1024), 0);
	check(!i[0]->current && !i[4]->current);
	world_end();
}

/* Elsewhere there may be one like it. */
static void what_was_refused_is_built_anew(void)
{
	struct instance *i;
	struct asker a;

	world_begin(INI "[fixture f]\ncommand = true\nwatch = 0\nmax-age = 5s\n");
	i = world_instance("f", NULL);
	instance_refuse(i, "there is none");
	check(!i->anew);
	instance_warm(i);
	finish(1);
	world.stamps[0]++;
	ask(&a, i);
	check(is_next(JOB_OF_BUILD, i) && !i->anew);
	finish(2);
	let_go(&a);
	instance_refuse(i, "cleaned up");
	check(!i->current && i->anew);
	instance_warm(i);
	check(i->anew);
	finish(3);
	check(!i->anew);
	world.now += 6 * NSEC_PER_SEC; /* without its timers */
	ask(&a, i);
	check(is_next(JOB_OF_BUILD, i) && i->anew);
	finish(4);
	let_go(&a);
	world_pass(6 * NSEC_PER_SEC);
	check(!i->current && i->anew);
	world_end();
}

static void what_others_are_built_with_does_not_expire(void)
{
	struct instance *dep, *i;

	world_begin(INI "[fixture dep]\ncommand = true\nmax-age = 5s\n[fixture f]\ncommand = true\ndepends = dep\n");
	dep = world_instance("dep", NULL);
	i = world_instance("f", NULL);
	instance_warm(i);
	finish(1);
	check(is_next(JOB_OF_BUILD, i) && dep->current->n_pins == 1);
	world_pass(60 * NSEC_PER_SEC);
	check(dep->current != NULL);
	finish(1);
	world_pass(NSEC_PER_SEC);
	check(!dep->current);
	world_end();
}

static void a_service_that_dies_takes_what_was_made_with_it(void)
{
	struct instance *s, *f;

	world_begin(INI "[fixture s]\nservice = true\nready = line\nrebuild = eager\n[fixture f]\ncommand = true\ndepends = s\n");
	s = world_instance("s", NULL);
	f = world_instance("f", NULL);
	instance_warm(f);
	finish(1);
	finish(1);
	world_pass(60 * NSEC_PER_SEC);
	world_kill(s);
	world_turn();
	check_int(f->state, INSTANCE_STALE);
	check_string(f->stale_cause, "its dependency 's' is torn down");
	check(world.jobs[0].what == JOB_OF_TEARDOWN);
	finish(1);
	/* It has lived long enough: it is started again as soon as after its first death. */
	world_pass(100 * NSEC_PER_MSEC);
	check(is_next(JOB_OF_BUILD, s));
	world_end();
}

static void a_definition_that_is_read_while_a_failure_is_looked_at(void)
{
	struct asker a;
	struct instance *i;

	world_begin(INI "[fixture f]\ncommand = true\nwatch = 0\n");
	i = world_instance("f", NULL);
	ask(&a, i);
	world_fail(0);
	world_turn();
	world.slow_looks = true;
	ask(&a, i);
	check(is_next(JOB_OF_CHECK, i));
	world_redefine(INI "[fixture f]\ncommand = true; true\nwatch = 0\n");
	world_turn();
	check_int(world.n_jobs, 1);
	check(is_next(JOB_OF_BUILD, i));
	finish(1);
	check_int(a.outcome, OUTCOME_READY);
	let_go(&a);
	world_end();
}

/* A member of a run. */
struct member_of_run {
	struct client client;
	struct lease *lease;
	enum released heard;
	int n_heard;
};

struct told {
	struct release release;
	struct member_of_run *who;
};

static void released(struct release *w, enum released how)
{
	struct told *t = container_of(w, struct told, release);

	t->who->heard = how;
	t->who->n_heard++;
	free(t);
}

static void join(struct member_of_run *m, uint64_t id)
{
	*m = (struct member_of_run){ .client = { .model = world.model, .id = id, .session = world.model->session } };
	link_init(&m->client.leases);
	run_join(world.model->session, "run", &m->client, false);
}

static void release(struct member_of_run *m, bool wait)
{
	struct told *t = xcalloc(1, sizeof *t);

	t->who = m;
	t->release.answer = released;
	run_release(m->client.member, m->lease->image, &t->release, wait, 1000);
}

static void one_of_those_who_let_go_is_the_last(void)
{
	struct member_of_run m[3];
	struct instance *i;
	struct image *im;

	world_begin(INI "[fixture x]\nclient = yes\nreuse = no\n");
	for (uint64_t k = 0; k < 3; k++)
		join(&m[k], k + 1);
	i = world_instance_in(world.model->session, config_find(world.model->config, "x"), NULL, m[0].client.member->run);
	i->state = INSTANCE_BUILDING;
	world_offer(i, &m[0].client);
	finish(0); /* not by a keeper */
	im = i->current;
	for (int k = 0; k < 3; k++)
		m[k].lease = lease_new(im, &m[k].client.leases, 1);
	release(&m[0], true);
	check_int(m[0].n_heard, 0);
	world_pass(2 * NSEC_PER_SEC);
	check_int(m[0].heard, RELEASED_TIMED_OUT);
	release(&m[1], true);
	check_int(m[1].n_heard, 0);
	release(&m[1], true);
	check_int(m[1].heard, RELEASED_TWICE);
	/* The last who could use it ends, and hears nothing; neither is it a member meanwhile. */
	lease_free(m[0].lease);
	run_leave(&m[0].client);
	check_int(m[1].n_heard, 1);
	run_leave(&m[2].client);
	check(!m[2].client.member);
	check_int(m[1].n_heard, 2);
	check_int(m[1].heard, RELEASED_LAST);
	check(!i->current); /* nobody gets it any more */
	for (int k = 1; k < 3; k++)
		lease_free(m[k].lease);
	run_leave(&m[1].client);
	check(link_empty(&world.model->session->runs));
	check_int(world.model->session->n_orphans, 0);
	world_end();
}

/* The one that can tear it down best is it, whoever comes last. */
static void who_can_tear_down_best_is_the_last(void)
{
	struct member_of_run m[2];
	struct instance *i;

	for (uint64_t best = 1; best < 3; best++) {
		world_begin(INI "[fixture x]\nclient = yes\nreuse = no\n");
		for (uint64_t k = 0; k < 2; k++)
			join(&m[k], k + 1);
		i = world_instance_in(world.model->session, config_find(world.model->config, "x"), NULL, m[0].client.member->run);
		i->state = INSTANCE_BUILDING;
		world_offer(i, &m[0].client);
		finish(0);
		i->current->preferred_teardown_client = best;
		for (int k = 0; k < 2; k++)
			m[k].lease = lease_new(i->current, &m[k].client.leases, 1);
		release(&m[0], true);
		release(&m[1], true);
		check_int(m[best - 1].heard, RELEASED_LAST);
		check_int(m[2 - best].heard, RELEASED);
		for (int k = 0; k < 2; k++) {
			lease_free(m[k].lease);
			run_leave(&m[k].client);
		}
		world_end();
	}
}

static const struct tap_test tests[] = {
	TAP_TEST(one_build_for_all_who_ask),
	TAP_TEST(what_is_fresh),
	TAP_TEST(what_was_used_is_reset),
	TAP_TEST(a_check_that_passed_counts_for_who_asked_before),
	TAP_TEST(dependencies_come_first_and_only_what_differs_is_built),
	TAP_TEST(a_failure_is_kept_until_something_changes),
	TAP_TEST(a_failure_is_for_those_who_asked_before),
	TAP_TEST(what_has_failed_does_not_wait),
	TAP_TEST(what_nobody_needs_does_not_wait),
	TAP_TEST(inputs_that_change_during_the_build),
	TAP_TEST(teardowns_in_reverse_order),
	TAP_TEST(the_least_recently_used_go_first),
	TAP_TEST(what_was_refused_is_built_anew),
	TAP_TEST(what_others_are_built_with_does_not_expire),
	TAP_TEST(a_service_that_dies_takes_what_was_made_with_it),
	TAP_TEST(a_definition_that_is_read_while_a_failure_is_looked_at),
	TAP_TEST(one_of_those_who_let_go_is_the_last),
	TAP_TEST(who_can_tear_down_best_is_the_last),
};

TAP_MAIN(tests)
