/* SPDX-License-Identifier: MIT */
#include "fixd/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/board.h"
#include "fixd/build.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/offer.h"
#include "fixd/policy.h"
#include "fixd/session.h"
#include "fixd/watch.h"

/* A build whose inputs changed under it is done again so many times. */
#define UNSETTLED_MAX 3

/* An instance at which so many clients in a row have died is not offered to the next. */
#define LOST_BUILDERS_MAX 3

#define EXPIRE_AGAIN (100 * NSEC_PER_MSEC)

static struct daemon *daemon_of(const struct instance *i)
{
	return i->session->daemon;
}

static void expire(void *arg);

struct instance *instance_new(struct session *s, const struct fixture *f, const char *param, const char *scope_key, char **env)
{
	struct instance *i = xcalloc(1, sizeof *i);

	i->session = s;
	i->fixture = f;
	i->param = param ? xstrdup(param) : NULL;
	i->scope_key = xstrdup(scope_key);
	i->env = env;
	i->title = xasprintf("%s%s%s%s%s%s", f->name, param ? "[" : "", param ? param : "", param ? "]" : "",
			     *scope_key ? " @ " : "", scope_key);
	i->board_slot = BOARD_NO_SLOT;
	timer_init(&i->expiry, expire, i);
	link_init(&i->waiters);
	return i;
}

static void set_error(struct instance *i, char *sentence)
{
	free(i->error);
	i->error = sentence;
}

static void set_cause(struct instance *i, const char *cause)
{
	char *copy = xstrdup(cause);

	free(i->stale_cause);
	i->stale_cause = copy;
}

/* Pinned images are those a build was, or will be, started with: they do not expire meanwhile. */
static void set_pin(struct instance *i, size_t k, struct image *im)
{
	struct image *old = i->pins[k];

	i->pins[k] = im ? image_ref(im) : NULL;
	if (im)
		im->n_pins++;
	if (old) {
		old->n_pins--;
		image_unref(old);
	}
}

static void unpin(struct instance *i)
{
	for (size_t k = 0; i->pins && k < i->fixture->n_depends; k++)
		set_pin(i, k, NULL);
	free(i->pins);
	i->pins = NULL;
}

/* The state of an instance nobody is at work on. */
static void rest(struct instance *i)
{
	i->state = i->current ? INSTANCE_READY : i->failed ? INSTANCE_FAILED : i->stale_cause ? INSTANCE_STALE : INSTANCE_ABSENT;
	instance_touch(i);
}

static void answer(struct waiter *w, enum outcome outcome)
{
	link_remove(&w->link);
	w->answer(w, outcome);
}

static void abandon(struct instance *i)
{
	build_abandon(i);
	offer_abandon(i);
}

struct instance *instance_free(struct instance *i)
{
	abandon(i);
	set_error(i, xasprintf("fixture '%s' was removed", i->fixture->name));
	while (!link_empty(&i->waiters))
		answer(link_entry(i->waiters.next, struct waiter, link), OUTCOME_FAILED);
	unpin(i);
	instance_retire(i, "removed");
	if (i->last)
		i->last->instance = NULL;
	board_give_back(daemon_of(i)->board, i->board_slot);
	watchset_free(i->watch);
	list_free(i->env);
	timer_stop(&i->expiry);
	free(i->failed_with);
	free(i->failed_error);
	free(i->error);
	free(i->stale_cause);
	free(i->log);
	free(i->param);
	free(i->scope_key);
	free(i->title);
	free(i->key);
	free(i);
	return NULL;
}

bool instance_idle(const struct instance *i)
{
	return !i->current && !i->last && !i->build && !i->offer && link_empty(&i->waiters) && i->state != INSTANCE_WAITING && !i->visiting;
}

const char *instance_state_name(const struct instance *i)
{
	static const char *const names[] = {
		[INSTANCE_ABSENT] = "absent",	  [INSTANCE_WAITING] = "building", [INSTANCE_BUILDING] = "building",
		[INSTANCE_CHECKING] = "checking", [INSTANCE_READY] = "ready",	   [INSTANCE_STALE] = "stale",
		[INSTANCE_FAILED] = "failed",
	};

	return names[i->state];
}

void instance_retire(struct instance *i, const char *cause)
{
	struct image *im = i->current;

	if (!im)
		return;
	board_show(daemon_of(i)->board, i->board_slot, 0);
	timer_stop(&i->expiry);
	set_cause(i, cause);
	i->current = NULL;
	if (i->state == INSTANCE_CHECKING)
		build_abandon(i);
	if (i->state == INSTANCE_READY || i->state == INSTANCE_CHECKING)
		rest(i);
	i->watch = watchset_free(i->watch);
	log_info("%s: generation %u is stale: %s", i->title, im->generation, cause);
	image_unref(im);
}

void instance_clear_failure(struct instance *i)
{
	if (!i->failed)
		return;
	i->failed = false;
	/* While it is tried again, what is watched is that build's. */
	if (i->state != INSTANCE_FAILED)
		return;
	set_error(i, NULL);
	i->unsettled = 0;
	i->watch = watchset_free(i->watch);
	rest(i);
}

/* The dependency `k`, made when it is not there yet: it takes its part of our scope key and of our environment. */
static struct instance *dependency(struct instance *i, size_t k, int *err)
{
	const struct depend *d = &i->fixture->depends[k];
	struct instance *dep = NULL;

	*err = session_instance(i->session, d->fixture, &(struct place){ d->param, i->scope_key, i->env, i->run }, &dep);
	return dep;
}

static struct instance *find_dependency(const struct instance *i, const struct depend *d)
{
	return session_find(i->session, d->fixture, &(struct place){ d->param, i->scope_key, i->env, i->run });
}

static enum outcome ensure(struct instance *i, int64_t asked);

/* All dependencies, each pinned once it is ready. */
static enum outcome ensure_dependencies(struct instance *i, int64_t asked)
{
	size_t n = i->fixture->n_depends;
	enum outcome all = OUTCOME_READY;

	if (n && !i->pins)
		i->pins = xcalloc(n, sizeof *i->pins);
	for (size_t k = 0; k < n; k++) {
		int err;
		struct instance *dep = dependency(i, k, &err);
		enum outcome one = dep ? ensure(dep, asked) : OUTCOME_FAILED;

		set_pin(i, k, NULL);
		if (one == OUTCOME_FAILED) {
			set_error(i, xasprintf("it depends on '%s': %s", i->fixture->depends[k].name,
					       dep ? dep->error : strerror(-err)));
			unpin(i);
			return OUTCOME_FAILED;
		}
		if (one == OUTCOME_READY)
			set_pin(i, k, dep->current);
		else
			all = OUTCOME_PENDING;
	}
	return all;
}

/* Objects need the very images they point into; bytes only need what they were made from to have stayed the same. */
static bool built_with(const struct image *im, size_t k, const struct image *dep)
{
	return im->depends ? im->depends[k] == dep : digest_equal(im->saw[k], dep->digest);
}

static const char *other_dependency(const struct instance *i)
{
	for (size_t k = 0; k < i->fixture->n_depends; k++) {
		if (!built_with(i->current, k, i->pins[k]))
			return i->fixture->depends[k].name;
	}
	return NULL;
}

/* What a client built is for those who would build it from the same images. */
static const char *other_for_client(const struct instance *i, const struct waiter *w)
{
	const struct image *im = i->current;

	if (!w->can_build)
		return NULL;
	for (size_t k = 0; k < w->n_depends && k < im->n_depends; k++) {
		if (!digest_equal(im->saw[k], w->depends[k]->digest))
			return w->depends[k]->title;
	}
	return w->n_depends == im->n_depends ? NULL : "another one than before";
}

/* `w`: of what clients build, who asks. */
static enum outcome judge_current(struct instance *i, int64_t asked, const struct waiter *w)
{
	_cleanup_free_ char *cause = NULL;
	const char *dep = NULL;
	enum verdict v = policy_judge(i, asked, &cause);

	if (v != VERDICT_STALE) {
		if (w)
			dep = other_for_client(i, w);
		else if (i->current->n_depends != i->fixture->n_depends)
			dep = "";
		else
			dep = other_dependency(i);
	}
	if (dep) {
		free(cause);
		cause = xasprintf("its dependency '%s' was rebuilt and differs", dep);
		v = VERDICT_STALE;
	}
	switch (v) {
	case VERDICT_FRESH:
		i->state = INSTANCE_READY;
		set_error(i, NULL);
		return OUTCOME_READY;
	case VERDICT_STALE:
		instance_retire(i, cause);
		return OUTCOME_FAILED;
	default:
		i->state = INSTANCE_CHECKING;
		build_check(i, v == VERDICT_COMPARE_BYTES, cause);
		return OUTCOME_PENDING;
	}
}

static bool may_retry(struct instance *i, int64_t asked)
{
	const struct policy *p = &i->fixture->policy;
	_cleanup_free_ char *changed = NULL;

	if (i->failed_at >= asked)
		return false; /* that was the answer */
	changed = i->watch ? watchset_changed(i->watch) : NULL;
	if (changed)
		log_debug("%s: trying again: %s", i->title, changed);
	return changed || !digest_equal(i->failed_section, i->fixture->section) ||
	       (p->retry_after != DURATION_NONE && clock_now() - i->failed_at >= p->retry_after);
}

/* Another dependency may cure what failed with the old one. */
static bool other_dependencies_than_failed(const struct instance *i)
{
	for (size_t k = 0; i->failed_with && k < i->fixture->n_depends; k++) {
		if (i->pins[k]->serial != i->failed_with[k])
			return true;
	}
	return false;
}

static void remember_dependencies(struct instance *i)
{
	size_t n = i->fixture->n_depends;

	free(i->failed_with);
	i->failed_with = n && i->pins ? xcalloc(n, sizeof *i->failed_with) : NULL;
	for (size_t k = 0; i->failed_with && k < n; k++)
		i->failed_with[k] = i->pins[k] ? i->pins[k]->serial : 0;
}

static enum outcome ensure_visited(struct instance *i, int64_t asked)
{
	enum outcome deps = ensure_dependencies(i, asked);

	if (deps == OUTCOME_FAILED) {
		if (i->state == INSTANCE_WAITING)
			rest(i);
		return OUTCOME_FAILED;
	}
	if (deps == OUTCOME_PENDING) {
		i->state = INSTANCE_WAITING;
		return OUTCOME_PENDING;
	}
	if (i->current) {
		enum outcome now = judge_current(i, asked, NULL);

		if (now != OUTCOME_FAILED) {
			unpin(i);
			return now;
		}
	}
	if (i->failed && !may_retry(i, asked) && (i->failed_at >= asked || !other_dependencies_than_failed(i))) {
		unpin(i);
		rest(i);
		set_error(i, xstrdup(i->failed_error)); /* not what a dependency said meanwhile */
		return OUTCOME_FAILED;
	}
	i->state = INSTANCE_BUILDING;
	build_queue(i);
	return OUTCOME_PENDING;
}

/* Counts the requests that are looked into, so that within one of them nobody is asked twice. */
static uint64_t pass;
static unsigned depth;

static enum outcome ensure(struct instance *i, int64_t asked)
{
	enum outcome outcome;

	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return OUTCOME_PENDING;
	if (depth == 0)
		pass++;
	else if (i->seen_in_pass == pass)
		return i->seen_outcome;
	depth++;
	i->visiting++;
	outcome = ensure_visited(i, asked);
	i->visiting--;
	depth--;
	i->seen_in_pass = pass;
	i->seen_outcome = outcome;
	return outcome;
}

static enum outcome offer_to_a_waiter(struct instance *i, struct waiter *w)
{
	char *wrong;

	for (struct link *l = &w->link; !w->can_build && (l = l->next) != &i->waiters;) {
		struct waiter *other = link_entry(l, struct waiter, link);

		if (other->can_build)
			w = other;
	}
	if (!w->can_build) {
		rest(i);
		set_error(i, xstrdup("it is built by the clients that use it, and none of them asks for it now"));
		return OUTCOME_FAILED;
	}
	link_remove(&w->link);
	i->state = INSTANCE_BUILDING;
	wrong = w->offer(w);
	if (!wrong)
		return OUTCOME_PENDING;
	/* It waits in front again, to be answered. */
	link_insert(i->waiters.next, &w->link);
	rest(i);
	set_error(i, wrong);
	return OUTCOME_FAILED;
}

/* Of what clients build: the dependencies are what the asker says. */
static enum outcome ensure_client(struct instance *i, struct waiter *w)
{
	enum outcome now;

	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return OUTCOME_PENDING;
	if (i->current && (now = judge_current(i, w->asked, w)) != OUTCOME_FAILED)
		return now;
	if (i->failed && !may_retry(i, w->asked)) {
		rest(i);
		set_error(i, xstrdup(i->failed_error));
		return OUTCOME_FAILED;
	}
	return offer_to_a_waiter(i, w);
}

static void note_waiting(struct instance *i)
{
	link_for_each(l, &i->waiters)
		link_entry(l, struct waiter, link)->built = true;
}

/* Answers who can be answered, each by what holds for the time at which it asked. */
static void advance(struct instance *i)
{
	while (!link_empty(&i->waiters)) {
		struct waiter *w = link_entry(i->waiters.next, struct waiter, link);
		bool by_client = i->fixture->source == SOURCE_CLIENT;
		enum outcome outcome = by_client ? ensure_client(i, w) : ensure(i, w->asked);

		if (outcome == OUTCOME_PENDING) {
			note_waiting(i);
			return;
		}
		answer(w, outcome);
	}
	if (i->eager_from && ensure(i, i->eager_from) == OUTCOME_PENDING)
		return;
	i->eager_from = 0;
	/* Everybody who waited for its dependencies has left. */
	if (i->state == INSTANCE_WAITING) {
		unpin(i);
		rest(i);
	}
}

void instance_want(struct instance *i, struct waiter *w)
{
	w->instance = i;
	link_insert(&i->waiters, &w->link);
	advance(i);
}

void instance_forget(struct waiter *w)
{
	link_remove(&w->link);
}

void instance_warm(struct instance *i)
{
	if (!i->eager_from)
		i->eager_from = clock_now();
	advance(i);
}

struct dependents {
	uint64_t mark;
	struct instance **all;
	size_t n;
};

/* Those who wait, directly or through others, for an instance with the mark. */
static void collect_dependents(struct instance *i, void *arg)
{
	struct dependents *list = arg;

	for (size_t k = 0; i->state == INSTANCE_WAITING && i->mark != list->mark && k < i->fixture->n_depends; k++) {
		const struct depend *d = &i->fixture->depends[k];
		const struct instance *dep = find_dependency(i, d);

		if (!dep || dep->mark != list->mark)
			continue;
		i->mark = list->mark;
		list->all = xrealloc(list->all, (list->n + 1) * sizeof *list->all);
		list->all[list->n++] = i;
	}
}

static bool is_asked(const struct instance *i)
{
	return !link_empty(&i->waiters) || i->eager_from;
}

void instance_settle(struct instance *i)
{
	static uint64_t last_mark;
	struct dependents list = { .mark = ++last_mark };
	size_t before;

	advance(i);
	/* Its end will be settled, too. */
	if (i->state == INSTANCE_WAITING || i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return;
	i->mark = list.mark;
	do {
		before = list.n;
		session_each(i->session, collect_dependents, &list);
	} while (list.n > before);
	/* Who was only wanted by others is wanted again by them, if they still want it. */
	for (size_t k = 0; k < list.n; k++) {
		if (!is_asked(list.all[k])) {
			unpin(list.all[k]);
			rest(list.all[k]);
		}
	}
	for (size_t k = 0; k < list.n; k++) {
		if (is_asked(list.all[k]))
			advance(list.all[k]);
	}
	free(list.all);
}

/* The same again, while the earlier image is still there; objects also with the same images to point into. */
static bool same_as_last(const struct instance *i, const struct image *im)
{
	const struct image *last = i->last;

	/* What is to be torn down is not the same, however it looks. */
	if (!last || im->teardown || !digest_equal(last->digest, im->digest) || last->size != im->size || last->kind != im->kind ||
	    last->root != im->root || last->n_depends != im->n_depends)
		return false;
	for (size_t k = 0; im->depends && k < im->n_depends; k++) {
		if (last->depends[k] != im->depends[k])
			return false;
	}
	return true;
}

/* What is known of an image built again passes over to the one that stays. */
static void keep_last(struct instance *i, struct image *im)
{
	struct image *last = image_ref(i->last);
	struct digest *saw = last->saw;
	char **made_from = last->made_from;

	last->created = im->created;
	last->created_real = im->created_real;
	last->checked = im->checked;
	last->build_ns = im->build_ns;
	last->inputs = im->inputs;
	last->section = im->section;
	last->saw = im->saw;
	im->saw = saw;
	last->made_from = im->made_from;
	im->made_from = made_from;
	image_unref(im);
	i->current = last;
	i->failed = false;
	board_show(daemon_of(i)->board, i->board_slot, last->board_value);
	log_info("%s: rebuilt, same digest: generation %u stays", i->title, last->generation);
}

static void publish(struct instance *i, struct image *im)
{
	i->failed = false;
	im->instance = i;
	if (!im->title)
		im->title = xstrdup(i->title);
	im->generation = ++i->generation;
	if (i->board_slot == BOARD_NO_SLOT)
		i->board_slot = board_take(daemon_of(i)->board);
	im->board_slot = i->board_slot;
	im->board_value = board_publish(daemon_of(i)->board, i->board_slot);
	if (i->last)
		i->last->instance = NULL;
	i->current = i->last = im;
	log_info("%s: generation %u is ready: %llu bytes, built in %.3f s", i->title, im->generation,
		 (unsigned long long)im->size, (double)im->build_ns / 1e9);
}

/* Those that were made from an earlier image of `dep`. */
struct outdated {
	const struct instance *dep;
	struct instance **all;
	size_t n;
};

static void collect_outdated(struct instance *i, void *arg)
{
	struct outdated *list = arg;

	/* One that is being looked at or built is judged when that ends. */
	for (size_t k = 0; i->state == INSTANCE_READY && i->current && k < i->fixture->n_depends; k++) {
		const struct depend *d = &i->fixture->depends[k];

		if (d->fixture != list->dep->fixture || built_with(i->current, k, list->dep->current) ||
		    find_dependency(i, d) != list->dep)
			continue;
		list->all = xrealloc(list->all, (list->n + 1) * sizeof *list->all);
		list->all[list->n++] = i;
		return;
	}
}

/* Not only when somebody asks for them: their views are out of date now. */
static void retire_outdated(const struct instance *dep)
{
	struct outdated list = { .dep = dep };
	_cleanup_free_ char *cause = xasprintf("its dependency '%s' was rebuilt and differs", dep->fixture->name);

	session_each(dep->session, collect_outdated, &list);
	for (size_t k = 0; k < list.n; k++) {
		instance_retire(list.all[k], cause);
		if (list.all[k]->fixture->policy.rebuild == REBUILD_EAGER)
			instance_warm(list.all[k]);
	}
	free(list.all);
}

bool instance_is_stale(struct instance *i)
{
	_cleanup_free_ char *cause = NULL;

	return i->current && policy_judge(i, clock_now(), &cause) == VERDICT_STALE;
}

char *instance_inputs_changed(struct instance *i)
{
	return i->watch ? watchset_changed(i->watch) : NULL;
}

/* The inputs changed while a build read them: what came out may be half old and half new. True: it is done again. */
static bool build_again(struct instance *i, const char *changed)
{
	if (!changed || ++i->unsettled >= UNSETTLED_MAX)
		return false;
	log_info("%s: building again: while it was built %s", i->title, changed);
	set_cause(i, changed);
	unpin(i);
	rest(i);
	instance_settle(i);
	return true;
}

static void build_failed(struct instance *i, const char *sentence)
{
	remember_dependencies(i);
	unpin(i);
	i->unsettled = 0;
	daemon_of(i)->failures++;
	set_error(i, xstrdup(sentence));
	free(i->failed_error);
	i->failed_error = xstrdup(sentence);
	i->state = INSTANCE_FAILED;
	i->failed = true;
	i->failed_at = clock_now();
	i->failed_section = i->fixture->section;
	log_warn(0, "%s: the build failed: %s", i->title, sentence);
	instance_settle(i);
}

void instance_build_failed(struct instance *i, const char *sentence)
{
	_cleanup_free_ char *changed = instance_inputs_changed(i);

	i->builds++;
	i->lost_builders = 0;
	if (!build_again(i, changed))
		build_failed(i, sentence);
}

void instance_builder_lost(struct instance *i)
{
	_cleanup_free_ char *sentence = NULL;

	if (++i->lost_builders >= LOST_BUILDERS_MAX) {
		i->lost_builders = 0;
		sentence = xasprintf("%d clients in a row ended while they built it", LOST_BUILDERS_MAX);
		build_failed(i, sentence);
		return;
	}
	log_info("%s: its builder has gone", i->title);
	rest(i);
	instance_settle(i);
}

struct image *instance_built(struct instance *i, struct image *im, const char *changed)
{
	i->builds++;
	i->lost_builders = 0;
	if (build_again(i, changed)) {
		image_unref(im);
		return NULL;
	}
	if (changed) {
		_cleanup_free_ char *sentence =
			xasprintf("its inputs changed during each of %d builds; the last time %s", UNSETTLED_MAX, changed);

		image_unref(im);
		build_failed(i, sentence);
		return NULL;
	}
	unpin(i);
	i->unsettled = 0;
	set_error(i, NULL);
	i->state = INSTANCE_READY;
	if (same_as_last(i, im))
		keep_last(i, im);
	else
		publish(i, im);
	instance_touch(i);
	retire_outdated(i);
	return i->current;
}

void instance_compared(struct instance *i, bool same, const char *cause)
{
	rest(i);
	if (same)
		instance_hint(i); /* what was heard meanwhile */
	else
		instance_retire(i, cause);
	instance_settle(i);
}

void instance_checked(struct instance *i, bool fits, int64_t started, const char *cause)
{
	if (fits)
		i->current->checked = started;
	instance_compared(i, fits, cause);
}

static void expire(void *arg)
{
	struct instance *i = arg;
	_cleanup_free_ char *cause = policy_too_old(i);

	if (!cause) {
		instance_touch(i);
		return;
	}
	/* Something is being built with it, or it is being looked at: later. */
	if (i->state != INSTANCE_READY || i->current->n_pins) {
		timer_start(daemon_of(i)->loop, &i->expiry, clock_now() + EXPIRE_AGAIN);
		return;
	}
	instance_retire(i, cause);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		instance_warm(i);
}

void instance_touch(struct instance *i)
{
	int64_t at = policy_expires(i);

	if (at == INT64_MAX)
		timer_stop(&i->expiry);
	else
		timer_start(daemon_of(i)->loop, &i->expiry, at + 1);
}

void instance_hint(void *instance)
{
	struct instance *i = instance;
	bool eager = i->fixture->policy.rebuild == REBUILD_EAGER;
	_cleanup_free_ char *changed = NULL;

	if (i->state != INSTANCE_READY && i->state != INSTANCE_FAILED)
		return;
	changed = watchset_changed(i->watch);
	if (!changed)
		return;
	if (i->state == INSTANCE_READY && i->fixture->policy.watch_by == WATCH_BY_CONTENT) {
		i->state = INSTANCE_CHECKING;
		build_check(i, true, changed);
	} else if (i->state == INSTANCE_READY) {
		instance_retire(i, changed);
	}
	if (eager)
		instance_warm(i);
}

static bool same_list(char *const *a, char *const *b)
{
	size_t n = list_count(a);

	for (size_t k = 0; k < n; k++) {
		if (!b || !b[k] || strcmp(a[k], b[k]) != 0)
			return false;
	}
	return list_count(b) == n;
}

bool instance_redefine(struct instance *i, const struct fixture *f)
{
	const struct fixture *old = i->fixture;
	bool other = !digest_equal(old->section, f->section);
	bool watches = same_list(old->inputs, f->inputs) && same_list(old->policy.watch, f->policy.watch);

	if (!same_list(old->all_env, f->all_env))
		return false;
	if (!other && watches) {
		i->fixture = f;
		instance_touch(i);
		return true;
	}
	if (i->state == INSTANCE_BUILDING)
		abandon(i);
	unpin(i); /* counted by the old definition */
	instance_retire(i, other ? "its section in the ini file changed" : "what it watches changed in the ini file");
	instance_clear_failure(i);
	i->watch = watchset_free(i->watch);
	i->fixture = f;
	if (f->source == SOURCE_CLIENT)
		i->eager_from = 0;
	rest(i);
	return true;
}
