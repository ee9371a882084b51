/* SPDX-License-Identifier: MIT */
#include "fixd/model/instance.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/vector.h"
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/effect.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/policy.h"
#include "fixd/model/session.h"

/* A build whose inputs changed under it is done again so many times. */
#define UNSETTLED_MAX 3

/* An instance at which so many clients in a row have died is not offered to the next. */
#define LOST_BUILDERS_MAX 3

#define EXPIRE_AGAIN (100 * NSEC_PER_MSEC)

static struct model *model_of(const struct instance *i)
{
	return i->session->model;
}

const struct effects *instance_effects(const struct instance *i)
{
	return i->session->model->effects;
}

static void expire(void *arg);
static void instance_look_again(void *arg);
static void start_again(void *arg);
static void restart_later(struct instance *i);

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
	i->rested = clock_now();
	timer_init(&i->expiry, expire, i);
	deferred_init(&i->waking, instance_look_again, i);
	timer_init(&i->restart, start_again, i);
	link_init(&i->waiters);
	link_init(&i->dependents);
	return i;
}

void instance_set_error(struct instance *i, char *sentence)
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
void instance_set_pin(struct instance *i, size_t k, struct image *im)
{
	struct image *old = i->pins[k];

	i->pins[k] = im ? image_ref(im) : NULL;
	if (im) {
		im->n_pins++;
		image_update_unused(im);
	}
	if (old) {
		old->n_pins--;
		image_update_unused(old);
		image_unref(old);
	}
}

void instance_unpin(struct instance *i)
{
	for (size_t k = 0; i->pins && k < i->fixture->n_depends; k++)
		instance_set_pin(i, k, NULL);
	free(i->pins);
	i->pins = NULL;
}

/* Was it made from an earlier image of what the edge leads to? One that is being looked at or built is judged when that ends. */
static bool is_outdated(const struct edge *e)
{
	const struct instance *i = e->from;

	return i->state == INSTANCE_READY && i->current && !image_built_with(i->current, edge_index(e), e->to->current);
}

#define IS_REBUILT "its dependency '%s' was rebuilt and differs"
#define IS_TORN_DOWN "its dependency '%s' is torn down"

/* What has become of its dependencies while nobody told it: a sentence, to be freed, or NULL. */
static char *lost_dependency(const struct instance *i)
{
	const struct image *im = i->current;

	for (size_t k = 0; k < i->n_edges; k++) {
		const struct instance *dep = i->edges[k].to;

		if (dep && dep->current && is_outdated(&i->edges[k]))
			return xasprintf(IS_REBUILT, dep->fixture->name);
	}
	for (size_t k = 0; im && k < im->n_teardown_deps; k++) {
		const struct instance *dep = im->teardown_deps[k]->instance;

		if (i->state == INSTANCE_READY && (!dep || dep->current != im->teardown_deps[k]))
			return xasprintf(IS_TORN_DOWN, dep ? dep->fixture->name : im->teardown_deps[k]->title);
	}
	return NULL;
}

/* The state of an instance nobody is at work on. */
void instance_set_idle(struct instance *i)
{
	_cleanup_free_ char *lost = NULL;

	i->state = i->current ? INSTANCE_READY : i->failed ? INSTANCE_FAILED : i->stale_cause ? INSTANCE_STALE : INSTANCE_ABSENT;
	i->rested = clock_now();
	instance_rearm_expiry(i);
	lost = lost_dependency(i);
	/* Not in the middle of what is going on. */
	if (lost)
		loop_defer(model_of(i)->loop, &i->waking);
}

void waiter_add(struct instance *i, struct waiter *w, struct link *before)
{
	link_insert(before, &w->link);
	i->n_waiters++;
	i->n_holders += w->holds;
	i->n_builders += w->can_build;
}

void waiter_remove(struct waiter *w)
{
	struct instance *i = w->instance;

	if (link_empty(&w->link))
		return;
	link_remove(&w->link);
	i->n_waiters--;
	i->n_holders -= w->holds;
	i->n_builders -= w->can_build;
}

void waiter_answer(struct waiter *w, enum outcome outcome)
{
	waiter_remove(w);
	w->answer(w, outcome);
}

struct instance *instance_free(struct instance *i)
{
	instance_effects(i)->abandon(i);
	instance_set_error(i, xasprintf("fixture '%s' was removed", i->fixture->name));
	while (!link_empty(&i->waiters))
		waiter_answer(link_entry(i->waiters.next, struct waiter, link), OUTCOME_FAILED);
	instance_unpin(i);
	instance_retire(i, "removed");
	edges_drop_all(i);
	if (i->last)
		image_detach(i->last);
	instance_effects(i)->show_no_more(model_of(i)->work, i->board_slot);
	instance_effects(i)->forget(i->watch);
	list_free(i->env);
	timer_stop(&i->expiry);
	deferred_cancel(&i->waking);
	timer_stop(&i->restart);
	free(i->failed_with);
	free(i->failed_error);
	free(i->error);
	free(i->stale_cause);
	text_deinit(&i->log);
	free(i->teardown_error);
	free(i->param);
	free(i->scope_key);
	free(i->title);
	free(i->key);
	free(i);
	return NULL;
}

void instance_resume(struct instance *i, struct instance *saved)
{
	i->generation = saved->generation;
	i->board_slot = saved->board_slot;
	i->builds = saved->builds;
	i->deaths = saved->deaths;
	i->stale_cause = saved->stale_cause;
	i->error = saved->error;
	i->failed = saved->failed;
	i->failed_error = saved->failed_error;
	i->failed_at = saved->failed_at;
	i->failed_full = saved->failed_full;
	i->failed_section = saved->failed_section;
	i->log = saved->log;
	i->teardown_error = saved->teardown_error;
}

bool instance_idle(const struct instance *i)
{
	return !i->current && !i->last && !i->build && !i->offer && link_empty(&i->waiters) && i->state != INSTANCE_WAITING;
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

/* What is torn down takes with it what was made with its help, in whatever session. */
static void retire_holders(const struct instance *i, struct image *im)
{
	_cleanup_vector_ struct vector list = { 0 };
	_cleanup_free_ char *cause = xasprintf(IS_TORN_DOWN, i->fixture->name);

	link_for_each(l, &im->teardown_dependents) {
		const struct image *holder = link_entry(l, struct teardown_link, in_dependents)->holder;

		if (holder->instance && holder->instance->current == holder)
			vector_add(&list, holder->instance);
	}
	for (size_t k = 0; k < list.n; k++)
		instance_retire(list.all[k], cause);
}

void instance_retire(struct instance *i, const char *cause)
{
	struct image *im = i->current;

	if (!im)
		return;
	instance_effects(i)->show(model_of(i)->work, i->board_slot, 0);
	timer_stop(&i->expiry);
	timer_stop(&i->restart);
	set_cause(i, cause);
	i->current = NULL;
	image_update_unused(im);
	if (i->state == INSTANCE_CHECKING)
		instance_effects(i)->abandon(i);
	if (i->state == INSTANCE_READY || i->state == INSTANCE_CHECKING)
		instance_set_idle(i);
	i->watch = instance_effects(i)->forget(i->watch);
	model_changed(model_of(i));
	log_info("%s: generation %u is stale: %s", i->title, im->generation, cause);
	event_of_instance(i, im, EVENT_STALE, cause);
	retire_holders(i, im);
	image_unref(im);
}

void instance_clear_failure(struct instance *i)
{
	if (!i->failed)
		return;
	i->failed = false;
	i->restarting = false;
	timer_stop(&i->restart);
	/* While it is tried again, what is watched is that build's. */
	if (i->state != INSTANCE_FAILED)
		return;
	instance_set_error(i, NULL);
	i->unsettled = 0;
	i->watch = instance_effects(i)->forget(i->watch);
	instance_set_idle(i);
}

/* The same again, while the earlier image is still there; objects also with the same images to point into. */
static bool same_as_last(const struct instance *i, const struct image *im)
{
	const struct image *last = i->last;

	/* What is to be torn down is not the same, however it looks, nor is what was made with it. */
	if (!last || im->teardown || im->n_teardown_deps || last->n_teardown_deps || im->kept_by || last->kept_by || !digest_equal(last->digest, im->digest) || last->size != im->size || last->kind != im->kind ||
	    last->root != im->root || last->n_depends != im->n_depends)
		return false;
	for (size_t k = 0; im->depends && k < im->n_depends; k++) {
		if (last->depends[k] != im->depends[k])
			return false;
	}
	return true;
}

static void tell_ready(const struct instance *i)
{
	_cleanup_text_ struct text from = { 0 };
	const struct fixture *f = i->fixture;

	for (size_t k = 0; i->current->dep_titles && i->current->dep_titles[k]; k++)
		text_printf(&from, "%s,", i->current->dep_titles[k]);
	for (size_t k = 0; k < f->n_depends; k++)
		text_printf(&from, f->depends[k].param ? "%s[%s]," : "%s,", f->depends[k].name, f->depends[k].param);
	event_of_instance(i, i->current, EVENT_READY, from.data);
}

/* What is known of an image built again passes over to the one that stays. */
static void keep_last(struct instance *i, struct image *im)
{
	struct image *last = image_ref(i->last);
	struct digest *dep_digests = last->dep_digests;
	char **dep_titles = last->dep_titles;

	last->created = im->created;
	last->created_real = im->created_real;
	last->checked = im->checked;
	last->build_ns = im->build_ns;
	last->cpu_ns = im->cpu_ns;
	last->peak_rss = im->peak_rss;
	last->inputs = im->inputs;
	last->section = im->section;
	last->dep_digests = im->dep_digests;
	im->dep_digests = dep_digests;
	last->dep_titles = im->dep_titles;
	im->dep_titles = dep_titles;
	image_unref(im);
	i->current = last;
	image_update_unused(last);
	i->failed = false;
	instance_effects(i)->show(model_of(i)->work, i->board_slot, last->board_value);
	model_changed(model_of(i));
	log_info("%s: rebuilt, same digest: generation %u stays", i->title, last->generation);
	tell_ready(i);
}

void instance_set_last(struct instance *i, struct image *im)
{
	if (!im->title)
		im->title = xstrdup(i->title);
	im->scope = i->fixture->scope;
	if (i->last == im)
		return;
	if (i->last)
		image_detach(i->last);
	link_remove(&im->in_detached);
	im->instance = i;
	i->last = im;
}

void instance_inherit_generation(struct instance *i, struct image *im)
{
	instance_set_last(i, im);
	i->generation = im->generation;
}

static void instance_publish(struct instance *i, struct image *im)
{
	i->failed = false;
	im->generation = ++i->generation;
	im->board_value = instance_effects(i)->show_new(model_of(i)->work, &i->board_slot);
	im->board_slot = i->board_slot;
	instance_set_last(i, im);
	i->current = im;
	image_update_unused(im);
	model_changed(model_of(i));
	log_info("%s: generation %u is ready: %llu bytes, built in %.3f s", i->title, im->generation,
		 (unsigned long long)im->size, (double)im->build_ns / 1e9);
	tell_ready(i);
}

static void retire_as_lost(struct instance *i, const char *cause)
{
	instance_retire(i, cause);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		instance_warm(i);
}

void instance_check_dependencies(struct instance *i)
{
	_cleanup_free_ char *cause = lost_dependency(i);

	if (cause)
		retire_as_lost(i, cause);
}

/* Not only when somebody asks for them: their views are out of date now. */
static void retire_outdated(const struct instance *dep)
{
	_cleanup_vector_ struct vector list = { 0 };
	_cleanup_free_ char *cause = xasprintf(IS_REBUILT, dep->fixture->name);

	link_for_each(l, &dep->dependents) {
		struct edge *e = link_entry(l, struct edge, in_dependency);

		if (is_outdated(e))
			vector_add(&list, e->from);
	}
	for (size_t k = 0; k < list.n; k++)
		retire_as_lost(list.all[k], cause);
}

bool instance_is_stale(struct instance *i, int64_t asked)
{
	_cleanup_free_ char *cause = NULL;

	return i->current && policy_judge(i, asked, &cause) == VERDICT_STALE;
}

char *instance_inputs_changed(struct instance *i, int64_t asked)
{
	return i->watch ? instance_effects(i)->changed(i->watch, asked) : NULL;
}

/* The inputs changed while a build read them: what came out may be half old and half new. True: it is done again. */
static bool build_again(struct instance *i, const char *changed)
{
	if (!changed || ++i->unsettled >= UNSETTLED_MAX)
		return false;
	log_info("%s: building again: while it was built %s", i->title, changed);
	set_cause(i, changed);
	instance_unpin(i);
	instance_set_idle(i);
	instance_propagate(i);
	return true;
}

static void remember_dependencies(struct instance *i)
{
	size_t n = i->fixture->n_depends;

	free(i->failed_with);
	i->failed_with = n && i->pins ? xcalloc(n, sizeof *i->failed_with) : NULL;
	for (size_t k = 0; i->failed_with && k < n; k++)
		i->failed_with[k] = i->pins[k] ? i->pins[k]->serial : 0;
}

static void build_failed(struct instance *i, const char *sentence, bool no_room)
{
	remember_dependencies(i);
	instance_unpin(i);
	i->unsettled = 0;
	model_of(i)->failures++;
	instance_set_error(i, xstrdup(sentence));
	free(i->failed_error);
	i->failed_error = xstrdup(sentence);
	i->state = INSTANCE_FAILED;
	i->failed = true;
	i->failed_at = clock_now();
	i->failed_full = no_room ? model_of(i)->account.bytes : 0;
	i->failed_section = i->fixture->section;
	model_changed(model_of(i));
	log_warn(0, "%s: the build failed: %s", i->title, sentence);
	event_of_instance(i, NULL, EVENT_FAILED, sentence);
	if (i->restarting) {
		i->deaths++;
		restart_later(i);
	}
	instance_propagate(i);
}

void instance_build_failed(struct instance *i, const char *sentence, bool no_room, int64_t over)
{
	_cleanup_free_ char *changed = instance_inputs_changed(i, over);

	i->builds++;
	i->lost_builders = 0;
	if (!build_again(i, changed))
		build_failed(i, sentence, no_room);
}

void instance_build_again(struct instance *i, const char *cause, const char *sentence)
{
	i->builds++;
	if (!build_again(i, cause))
		build_failed(i, sentence, false);
}

void instance_log(struct instance *i, const char *data, size_t size)
{
	text_add_and_forget(&i->log, data, size, INSTANCE_LOG_MAX);
}

/* Soon after its start means that it cannot live; then the next start waits longer and longer. */
#define LIVES_AFTER (10 * NSEC_PER_SEC)
#define RESTART_MIN (100 * NSEC_PER_MSEC)
#define RESTART_MAX (60 * NSEC_PER_SEC)

static void restart_later(struct instance *i)
{
	int64_t delay = i->deaths ? RESTART_MIN : 0;

	for (unsigned n = 1; n < i->deaths && delay < RESTART_MAX; n++)
		delay *= 2;
	i->restarting = true;
	timer_start(model_of(i)->loop, &i->restart, clock_now() + (delay < RESTART_MAX ? delay : RESTART_MAX));
}

static void instance_look_again(void *arg)
{
	instance_propagate(arg);
}

static void start_again(void *arg)
{
	struct instance *i = arg;

	instance_clear_failure(i);
	i->restarting = true;
	instance_warm(i);
}

void instance_service_died(struct instance *i, struct image *im, const char *sentence)
{
	_cleanup_text_ struct text cause = { 0 };

	if (i->current != im)
		return;
	text_printf(&cause, "%s\n", sentence);
	text_add_last_lines(&cause, &i->log, 3);
	if (cause.data[cause.size - 1] == '\n')
		cause.data[--cause.size] = '\0';
	i->deaths = clock_now() - im->created < LIVES_AFTER ? i->deaths + 1 : 0;
	instance_retire(i, cause.data);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		restart_later(i);
	instance_propagate(i);
}

void instance_torn_down(struct instance *i, const char *wrong)
{
	free(i->teardown_error);
	i->teardown_error = wrong ? xstrdup(wrong) : NULL;
}

void instance_builder_lost(struct instance *i)
{
	_cleanup_free_ char *sentence = NULL;

	if (++i->lost_builders >= LOST_BUILDERS_MAX) {
		i->lost_builders = 0;
		sentence = xasprintf("%d clients in a row ended while they built it", LOST_BUILDERS_MAX);
		build_failed(i, sentence, false);
		return;
	}
	log_info("%s: its builder has gone", i->title);
	instance_set_idle(i);
	instance_propagate(i);
}

struct image *instance_built(struct instance *i, struct image *im, const char *changed)
{
	i->builds++;
	i->lost_builders = 0;
	i->restarting = false;
	if (changed) {
		_cleanup_free_ char *sentence =
			xasprintf("its inputs changed during each of %d builds; the last time %s", UNSETTLED_MAX, changed);

		/* It may have to be torn down, and the next build waits for that. */
		instance_set_last(i, im);
		image_unref(im);
		if (!build_again(i, changed))
			build_failed(i, sentence, false);
		return NULL;
	}
	instance_unpin(i);
	i->unsettled = 0;
	instance_set_error(i, NULL);
	i->state = INSTANCE_READY;
	if (same_as_last(i, im))
		keep_last(i, im);
	else
		instance_publish(i, im);
	instance_rearm_expiry(i);
	retire_outdated(i);
	return i->current;
}

void instance_compared(struct instance *i, bool same, const char *cause)
{
	instance_set_idle(i);
	if (same)
		instance_inputs_event(i); /* what was heard meanwhile */
	else
		instance_retire(i, cause);
	instance_propagate(i);
}

void instance_was_reset(struct instance *i, bool done, const char *cause)
{
	if (done) {
		i->current->dirty = false;
		event_of_instance(i, i->current, EVENT_RESET, NULL);
	}
	instance_compared(i, done, cause);
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
		instance_rearm_expiry(i);
		return;
	}
	/* Something is being built with it, or it is being looked at: later. */
	if (i->state != INSTANCE_READY || i->current->n_pins) {
		timer_start(model_of(i)->loop, &i->expiry, clock_now() + EXPIRE_AGAIN);
		return;
	}
	instance_retire(i, cause);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		instance_warm(i);
}

void instance_rearm_expiry(struct instance *i)
{
	int64_t at = policy_expires(i);

	if (at == INT64_MAX)
		timer_stop(&i->expiry);
	else
		timer_start(model_of(i)->loop, &i->expiry, at + 1);
}

void instance_image_unheld(struct image *im)
{
	struct instance *i = im->instance;

	if (i && i->current == im)
		instance_rearm_expiry(i); /* its idle time starts */
	if (i && im->n_leases == 0)
		instance_wake(i); /* who waits to be the only one */
}

void instance_image_gone(struct image *im)
{
	struct instance *i = im->instance;

	if (!i || i->last != im)
		return;
	i->last = NULL;
	instance_wake(i); /* who waits for its end */
}

void instance_inputs_event(void *instance)
{
	struct instance *i = instance;
	bool eager = i->fixture->policy.rebuild == REBUILD_EAGER;
	_cleanup_free_ char *changed = NULL;

	if (i->state != INSTANCE_READY && i->state != INSTANCE_FAILED)
		return;
	if (i->watch && !instance_effects(i)->look(i->watch, INT64_MIN)) {
		i->state = INSTANCE_CHECKING;
		instance_effects(i)->check(i, VERDICT_LOOK_ON, NULL);
		return;
	}
	changed = instance_inputs_changed(i, INT64_MIN);
	if (!changed)
		return;
	if (i->state == INSTANCE_READY && i->fixture->policy.watch_by == WATCH_BY_CONTENT) {
		i->state = INSTANCE_CHECKING;
		instance_effects(i)->check(i, VERDICT_COMPARE_BYTES, changed);
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
	edges_drop(i);
	if (!other && watches) {
		i->fixture = f;
		instance_rearm_expiry(i);
		return true;
	}
	/* Also a look at what a failure has read, which is of no image. */
	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		instance_effects(i)->abandon(i);
	instance_unpin(i); /* counted by the old definition */
	instance_retire(i, other ? "its section in the ini file changed" : "what it watches changed in the ini file");
	instance_clear_failure(i);
	edges_drop_all(i);
	i->watch = instance_effects(i)->forget(i->watch);
	i->fixture = f;
	if (f->source == SOURCE_CLIENT)
		i->eager_from = 0;
	instance_set_idle(i);
	return true;
}
