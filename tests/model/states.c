/* SPDX-License-Identifier: MIT */
/*
 * Every state of an instance times every event: the state after it, and what somebody who waits has heard. Of a command, of a service that is
 * exclusive, reset and checked, and of what clients build.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "config/config.h"
#include "fixd/model/client.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"
#include "tests/tap.h"
#include "world.h"

#define BEFORE "[fixd]\nroot = /\n[policy]\nmax-age = none\n[fixture dep]\ncommand = true\nwatch = 1\n[fixture f]\n"
#define INI BEFORE "command = true\ndepends = dep\nwatch = 0\nwatch-by = content\nretry-after = 1h\nmax-age = 1m\n"
#define SERVICE BEFORE "depends = dep\nservice = true\nready = line\nexclusive = yes\nreset = true\nretry-after = 1h\n"
#define CHECKED BEFORE "depends = dep\nservice = true\nready = line\ncheck = true\nteardown = true\nretry-after = 1h\n"
#define CLIENT \
	"[fixd]\nroot = /\n[policy]\nmax-age = none\n[fixture dep]\nclient = yes\n[fixture f]\nclient = yes\nwatch = 0\nretry-after = 1h\n"
#define OTHER BEFORE "command = true\ndepends = dep\nwatch = 0\nwatch-by = content\nretry-after = 1h\nmax-age = 2m\n"

static const char letters[] = "AWBCRSF"; /* as enum instance_state */

static struct instance *f, *dep;

/* The one who is there from the beginning, one for whom it is looked at, and one who comes by an event. */
static struct asker {
	struct waiter waiter;
	char heard; /* '.': nothing yet */
	struct link leases;
} first, other, second;

static void answered(struct waiter *w, enum outcome outcome)
{
	struct asker *a = container_of(w, struct asker, waiter);

	a->heard = a->heard != '.' ? '!' : outcome == OUTCOME_READY ? 'r' : 'f';
	if (outcome == OUTCOME_READY)
		lease_new(w->instance->current, &a->leases, 1);
}

static bool look(struct waiter *w)
{
	return world_look(w->instance);
}

/* It is to build it. */
static char *offered(struct waiter *w)
{
	static const struct client builder = { .id = 1 };
	struct asker *a = container_of(w, struct asker, waiter);

	a->heard = 'b';
	world_offer(w->instance, &builder);
	return NULL;
}

static void ask_at(struct asker *a, int64_t asked)
{
	a->waiter = (struct waiter){ .asked = asked,
				     .holds = true,
				     .answer = answered,
				     .look = look,
				     .offer = offered,
				     .can_build = f->fixture->source == SOURCE_CLIENT };
	link_init(&a->waiter.link);
	waiter_begin(f, &a->waiter);
}

/* The job that is at work on it; false: there is none. */
static bool job_of(const struct instance *i, size_t *k)
{
	for (*k = 0; *k < world.n_jobs; ++*k) {
		if (world.jobs[*k].instance == i)
			return true;
	}
	return false;
}

static void finish(const struct instance *i)
{
	size_t k;

	if (job_of(i, &k))
		world_finish(k, 1);
	world_turn();
}

static void let_go_of_all(struct asker *a)
{
	while (!link_empty(&a->leases))
		lease_free(link_entry(a->leases.next, struct lease, in_client));
}

/* How each state comes about. */
static void become(enum instance_state state)
{
	size_t k;

	if (state == INSTANCE_ABSENT)
		return;
	ask_at(&first, ++world.now);
	world_turn();
	if (state == INSTANCE_WAITING)
		return;
	finish(dep);
	if (state == INSTANCE_BUILDING)
		return;
	if (state == INSTANCE_FAILED && job_of(f, &k)) {
		world_lose(k);
		instance_build_failed(f, "it failed", false, NULL);
		world_turn();
		return;
	}
	finish(f);
	if (state == INSTANCE_CHECKING && f->fixture->source == SOURCE_SERVICE) {
		let_go_of_all(&first);
		ask_at(&other, ++world.now);
	} else if (state == INSTANCE_CHECKING) {
		world_touch(0);
	}
	if (state == INSTANCE_STALE)
		instance_retire(f, "a test");
	world_turn();
}

/* Events. False: this cannot happen now. */

static bool ask_now(void)
{
	ask_at(&second, ++world.now);
	return true;
}

static bool ask_of_before(void)
{
	ask_at(&second, 1);
	return true;
}

static bool edit(void)
{
	world_edit(0);
	return true;
}

static bool edit_and_ask(void)
{
	world_edit(0);
	return ask_now();
}

static bool touch_and_ask(void)
{
	world_touch(0);
	return ask_now();
}

static bool edit_dependency_and_ask(void)
{
	world_edit(1);
	return ask_now();
}

static bool look_slowly(void)
{
	world.slow_looks = true;
	return ask_now();
}

static bool end_job(enum job_kind_of what, bool well)
{
	size_t k;

	if (!job_of(f, &k) || world.jobs[k].what != what)
		return false;
	if (well)
		world_finish(k, 2);
	else
		world_fail(k);
	return true;
}

static bool build_ends(void)
{
	return end_job(JOB_OF_BUILD, true);
}

static bool build_fails(void)
{
	return end_job(JOB_OF_BUILD, false);
}

static bool build_ends_edited(void)
{
	world_edit(0);
	return build_ends();
}

/* In that state the job is over; what came of it is for the caller to say. */
static bool lose_job(enum instance_state state)
{
	size_t k;

	if (f->state != state || !job_of(f, &k))
		return false;
	world_lose(k);
	return true;
}

static bool build_has_no_room(void)
{
	if (!lose_job(INSTANCE_BUILDING))
		return false;
	instance_build_failed(f, "there is no room", true, NULL);
	return true;
}

static bool build_is_lost(void)
{
	if (!lose_job(INSTANCE_BUILDING))
		return false;
	instance_build_again(f, "its helper was killed", "its helper was killed too often");
	return true;
}

static bool check_differs(void)
{
	if (!lose_job(INSTANCE_CHECKING))
		return false;
	instance_compared(f, false, "its inputs differ");
	return true;
}

static bool check_is_the_same(void)
{
	return end_job(JOB_OF_CHECK, true);
}

static bool dependency_ends(void)
{
	size_t k;

	if (!job_of(dep, &k))
		return false;
	world_finish(k, 2);
	return true;
}

static bool dependency_fails(void)
{
	size_t k;

	if (!job_of(dep, &k))
		return false;
	world_fail(k);
	return true;
}

static bool dependency_goes(void)
{
	instance_retire(dep, "a test");
	instance_propagate(dep);
	return true;
}

static bool give_up(void)
{
	if (!first.waiter.instance || first.heard != '.')
		return false;
	waiter_cancel(&first.waiter);
	return true;
}

static bool clean_up(void)
{
	instance_retire(f, "cleaned up");
	instance_clear_failure(f);
	instance_propagate(f);
	return true;
}

static bool grow_old(void)
{
	world.now += 61 * NSEC_PER_SEC;
	return true;
}

static bool grow_old_unheld(void)
{
	let_go_of_all(&first);
	return grow_old();
}

static bool run_short(void)
{
	let_go_of_all(&first);
	reclaim_memory(world.model, world.model->config->memory_max);
	return true;
}

static bool read_again(void)
{
	world_redefine(INI);
	return true;
}

static bool read_another(void)
{
	world_redefine(OTHER);
	return true;
}

static bool retry_delay(void)
{
	world.now += 3601 * NSEC_PER_SEC;
	return ask_now();
}

static bool let_go(void)
{
	if (link_empty(&first.leases))
		return false;
	let_go_of_all(&first);
	return true;
}

static bool let_go_and_ask(void)
{
	let_go_of_all(&first);
	return ask_now();
}

static bool service_ends(void)
{
	if (!f->current || f->current->died)
		return false;
	world_kill(f);
	return true;
}

/* The teardown of what was retired is over. */
static bool is_torn_down(void)
{
	bool any = false;

	let_go_of_all(&first);
	instance_retire(f, "a test");
	instance_propagate(f);
	world_turn();
	for (size_t k = 0; k < world.n_jobs && !any; k++) {
		any = world.jobs[k].what == JOB_OF_TEARDOWN;
		if (any)
			world_finish(k, 0);
	}
	return any;
}

static bool check_fails(void)
{
	return end_job(JOB_OF_CHECK, false);
}

static bool is_warmed(void)
{
	instance_warm(f);
	return true;
}

static bool is_swept(void)
{
	world.now += 25 * 3600 * NSEC_PER_SEC;
	session_sweep(world.model->session);
	/* It is gone, if nobody would miss it. */
	f = world_instance("f", NULL);
	return true;
}

static bool builder_goes(void)
{
	return end_job(JOB_OF_OFFER, false);
}

static bool client_has_built(void)
{
	return end_job(JOB_OF_OFFER, true);
}

/* The columns: absent, waiting, building, checking, ready, stale, failed; '-': it cannot happen. */
static const struct row {
	const char *name;
	bool (*happen)(void);
	const char *after, *first_hears, *second_hears;
} of_command[] = {
	{ "somebody asks", ask_now, "WWBCRBF", "...rrrf", "....r.f" },
	{ "somebody asks, of before", ask_of_before, "WWBCRBF", "...rrrf", "....r.f" },
	{ "an input is edited", edit, "AWBCCSF", "...rrrf", "......." },
	{ "an input is edited, and somebody asks", edit_and_ask, "WWBCCBB", "...rrrf", "......." },
	{ "an input is touched, and somebody asks", touch_and_ask, "WWBCCBB", "...rrrf", "......." },
	{ "its dependency's input is edited, and somebody asks", edit_dependency_and_ask, "WWBCWWW", "...rrrf", "......." },
	{ "somebody asks, and the look at its inputs takes long", look_slowly, "WWBCWWW", "...rrrf", "......." },
	{ "its build ends", build_ends, "--R----", "--r----", "--.----" },
	{ "its build ends, its inputs have changed meanwhile", build_ends_edited, "--B----", "--.----", "--.----" },
	{ "its build fails", build_fails, "--F----", "--f----", "--.----" },
	{ "its build has no room", build_has_no_room, "--F----", "--f----", "--.----" },
	{ "its build is lost", build_is_lost, "--B----", "--.----", "--.----" },
	{ "the check finds a difference", check_differs, "---S---", "---r---", "---.---" },
	{ "the check finds none", check_is_the_same, "---R---", "---r---", "---.---" },
	{ "its dependency's build ends", dependency_ends, "-B-----", "-.-----", "-.-----" },
	{ "its dependency's build fails", dependency_fails, "-A-----", "-f-----", "-.-----" },
	{ "its dependency is retired", dependency_goes, "AWBCRSF", "...rrrf", "......." },
	{ "who waits gives up", give_up, "-AA----", "-..----", "-..----" },
	{ "it is cleaned up", clean_up, "AWBSSSA", "...rrrf", "......." },
	{ "max-age passes", grow_old, "AWBCSSF", "...rrrf", "......." },
	{ "max-age passes, and nobody holds it", grow_old_unheld, "AWBCSSF", "...rrrf", "......." },
	{ "memory runs short, and nobody holds it", run_short, "AWBCSSF", "...rrrf", "......." },
	{ "the definition is read again", read_again, "AWBCRSF", "...rrrf", "......." },
	{ "another definition is read", read_another, "AWBSSSA", "...rrrf", "......." },
	{ "the retry delay passes, and somebody asks", retry_delay, "WWBCBBB", "...rrrf", "......." },
	{ "it is warmed", is_warmed, "WWBCRBF", "...rrrf", "......." },
	{ "a day passes", is_swept, "AWBCSSA", "...rrrf", "......." },
};

static const struct row of_service[] = {
	{ "somebody asks", ask_now, "WWBCRWF", "...rrrf", "......f" },
	{ "its holder lets go", let_go, "----RS-", "----rr-", "----..-" },
	{ "its holder lets go, and somebody asks", let_go_and_ask, "WWBCCWF", "...rrrf", "......f" },
	{ "its reset is done", check_is_the_same, "---R---", "---r---", "---.---" },
	{ "its reset fails", check_fails, "---W---", "---r---", "---.---" },
	{ "it ends by itself", service_ends, "---WS--", "---rr--", "---..--" },
	{ "it is torn down", is_torn_down, "---BSS-", "---rrr-", "---...-" },
	{ "its dependency is retired", dependency_goes, "AWBCRSF", "...rrrf", "......." },
	{ "it is cleaned up", clean_up, "AWBWSSA", "...rrrf", "......." },
	{ "it is warmed", is_warmed, "WWBCRWF", "...rrrf", "......." },
};

static const struct row of_checked[] = {
	{ "somebody asks", ask_now, "WWBCCBF", "...rrrf", "......f" },
	{ "the check command says yes", check_is_the_same, "---R---", "---r---", "---.---" },
	{ "the check command says no", check_fails, "---W---", "---r---", "---.---" },
	{ "it ends by itself", service_ends, "---WS--", "---rr--", "---..--" },
	{ "it is torn down", is_torn_down, "---BSS-", "---rrr-", "---...-" },
};

static const struct row of_client[] = {
	{ "somebody asks", ask_now, "B-B-RBF", ".-b-bbb", "b-.-rbf" },
	{ "its builder has built it", client_has_built, "--R----", "--b----", "--.----" },
	{ "its builder goes", builder_goes, "--A----", "--b----", "--.----" },
	{ "an input is edited", edit, "A-B-SSF", ".-b-bbb", ".-.-..." },
	{ "an input is edited, and somebody asks", edit_and_ask, "B-B-BBB", ".-b-bbb", "b-.-bbb" },
	{ "it is cleaned up", clean_up, "A-B-SSA", ".-b-bbb", ".-.-..." },
};

/* What of a fixture comes about; the letters of the states that it has. */
static const struct table {
	const char *ini, *states;
	const struct row *rows;
	size_t n;
} tables[] = {
	{ INI, "AWBCRSF", of_command, ELEMENTSOF(of_command) },
	{ SERVICE, "AWBCRSF", of_service, ELEMENTSOF(of_service) },
	{ CHECKED, "AWBCRSF", of_checked, ELEMENTSOF(of_checked) },
	{ CLIENT, "A BRSF", of_client, ELEMENTSOF(of_client) },
};

static void is_as_it_should(const struct table *t, const struct row *r, char *after, char *hears, char *second_hears)
{
	for (size_t state = 0; letters[state]; state++) {
		bool comes_about, happened;

		first = other = second = (struct asker){ .heard = '.' };
		link_init(&first.leases);
		link_init(&other.leases);
		link_init(&second.leases);
		world_begin(t->ini);
		f = world_instance("f", NULL);
		dep = world_instance("dep", NULL);
		become((enum instance_state)state);
		comes_about = letters[f->state] == letters[state];
		check_int(comes_about, strchr(t->states, letters[state]) != NULL);
		happened = comes_about && r->happen();
		world_turn();
		after[state] = happened ? letters[f->state] : '-';
		hears[state] = happened ? first.heard : '-';
		second_hears[state] = happened ? second.heard : '-';
		check_string(world_wrong() ? world_wrong() : "", "");
		for (struct asker *const all[] = { &first, &other, &second, NULL }, *const *a = all; *a; a++) {
			if ((*a)->heard == '.' && (*a)->waiter.instance && !link_empty(&(*a)->waiter.link))
				waiter_cancel(&(*a)->waiter);
			let_go_of_all(*a);
		}
		world_end();
	}
}

static void every_state_times_every_event(void)
{
	bool well = true;

	for (const struct table *t = tables; t < tables + ELEMENTSOF(tables); t++) {
		for (size_t k = 0; k < t->n; k++) {
			const struct row *r = &t->rows[k];
			char after[8] = "", hears[8] = "", second_hears[8] = "";

			is_as_it_should(t, r, after, hears, second_hears);
			if (strcmp(after, r->after) != 0 || strcmp(hears, r->first_hears) != 0 ||
			    strcmp(second_hears, r->second_hears) != 0) {
				printf("# { \"%s\", ..., \"%s\", \"%s\", \"%s\" },\n", r->name, after, hears, second_hears);
				well = false;
			}
		}
	}
	check(well);
}

static const struct tap_test tests[] = { TAP_TEST(every_state_times_every_event) };

TAP_MAIN(tests)
