/* SPDX-License-Identifier: MIT */
#include "fixd/model/instance.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/effect.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/session.h"

struct model *instance_model(const struct instance *i)
{
	return i->session->model;
}

const struct effects *instance_effects(const struct instance *i)
{
	return i->session->model->effects;
}

static void instance_look_again(void *arg);

char *instance_plain_name(const struct instance *i)
{
	return i->param ? xasprintf("%s[%s]", i->fixture->name, i->param) : xstrdup(i->fixture->name);
}

/* As people read it: pg[x] @ scope; of clones pg[x]/3, and pg[x] in app/3 for what such a one depends on. */
static char *make_title(const struct instance *i)
{
	bool own = i->clone && instance_is_own_clone(i);
	_cleanup_free_ char *name = instance_plain_name(i);
	_cleanup_text_ struct text t = { 0 };

	text_puts(&t, own ? i->clone : name);
	if (i->clone && !own)
		text_printf(&t, " in %s", i->clone);
	if (*i->scope_key)
		text_printf(&t, " @ %s", i->scope_key);
	return text_steal(&t);
}

bool instance_is_own_clone(const struct instance *i)
{
	const char *slash = strrchr(i->clone, '/');
	_cleanup_free_ char *name = instance_plain_name(i);

	return slash && strlen(name) == (size_t)(slash - i->clone) && !strncmp(i->clone, name, strlen(name));
}

struct instance *instance_new(struct session *s, const struct fixture *f, const char *param, const char *scope_key, char **env,
			      const char *clone)
{
	struct instance *i = xcalloc(1, sizeof *i);

	i->session = s;
	i->fixture = f;
	i->param = param ? xstrdup(param) : NULL;
	i->scope_key = xstrdup(scope_key);
	i->env = env;
	i->clone = clone ? xstrdup(clone) : NULL;
	i->title = make_title(i);
	i->board_slot = BOARD_NO_SLOT;
	i->rested = model_now(instance_model(i));
	deferred_init(&i->waking, instance_look_again, i);
	link_init(&i->waiters);
	link_init(&i->dependents);
	return i;
}

void instance_set_error(struct instance *i, char *sentence)
{
	free(i->error);
	i->error = sentence;
}

void instance_set_cause(struct instance *i, const char *cause)
{
	char *copy = xstrdup(cause);

	free(i->stale_cause);
	i->stale_cause = copy;
}

void instance_give_back(struct image *im)
{
	struct instance *i = im->instance;

	if (!i || !i->clone || i->current != im || im->n_leases || im->n_pins || im->n_teardown_dependents)
		return;
	instance_retire(i, "it was given back");
	instance_wake(i);
}

/* Pinned images are those a build was, or will be, started with: they do not expire meanwhile. */
void instance_set_pin(struct instance *i, size_t k, struct image *im)
{
	struct image *old = i->pins[k];

	i->pins[k] = im ? image_ref(im) : NULL;
	if (im) {
		im->n_pins++;
		im->dirty |= im->instance && im->instance->clone;
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
	for (size_t k = 0; i->pins && k < i->fixture->n_depends; k++) {
		struct image *im = i->pins[k] ? image_ref(i->pins[k]) : NULL;

		instance_set_pin(i, k, NULL);
		if (im)
			instance_give_back(im);
		image_unref(im);
	}
	free(i->pins);
	i->pins = NULL;
}

void instance_rearm_expiry(struct instance *i)
{
	int64_t at = policy_expires(i);

	if (at == INT64_MAX)
		timer_stop(&i->expiry);
	else
		timer_start(instance_model(i)->loop, &i->expiry, at + 1);
}

/* The state of an instance nobody is at work on. */
void instance_set_idle(struct instance *i)
{
	_cleanup_free_ char *lost = NULL;

	i->state = i->current ? INSTANCE_READY : i->failed ? INSTANCE_FAILED : i->stale_cause ? INSTANCE_STALE : INSTANCE_ABSENT;
	i->rested = model_now(instance_model(i));
	instance_rearm_expiry(i);
	if (i->clone_of)
		pool_changed(i->clone_of);
	lost = instance_lost_dependency(i);
	/* Not in the middle of what is going on. */
	if (lost)
		loop_defer(instance_model(i)->loop, &i->waking);
}

struct instance *instance_free(struct instance *i)
{
	instance_effects(i)->abandon(i);
	i->pool = pool_free(i->pool);
	if (i->clone_of)
		pool_remove(i->clone_of, i);
	instance_set_error(i, xasprintf("fixture '%s' was removed", i->fixture->name));
	while (!link_empty(&i->waiters))
		waiter_answer(link_entry(i->waiters.next, struct waiter, link), OUTCOME_FAILED);
	instance_unpin(i);
	instance_retire(i, "removed");
	edges_drop_all(i);
	if (i->last)
		image_detach(i->last);
	instance_effects(i)->show_no_more(instance_model(i)->work, i->board_slot);
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
	free(i->clone);
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
	i->anew = saved->anew;
	i->failed_error = saved->failed_error;
	i->failed_at = saved->failed_at;
	i->failed_full = saved->failed_full;
	i->not_started = saved->not_started;
	i->failed_section = saved->failed_section;
	i->log = saved->log;
	i->teardown_error = saved->teardown_error;
}

bool instance_idle(const struct instance *i)
{
	return !(i->pool && i->pool->clones.n) && !i->current && !i->last && !i->build && !i->offer && link_empty(&i->waiters) &&
	       i->state != INSTANCE_WAITING;
}

const char *instance_state_name(const struct instance *i)
{
	static const char *const names[] = {
		[INSTANCE_ABSENT] = "absent",	  [INSTANCE_WAITING] = "building", [INSTANCE_BUILDING] = "building",
		[INSTANCE_CHECKING] = "checking", [INSTANCE_READY] = "ready",	   [INSTANCE_STALE] = "stale",
		[INSTANCE_FAILED] = "failed",
	};

	if (i->pool)
		return pool_state_name(i->pool);
	return names[i->state];
}

enum log_level instance_log_level(const struct instance *i)
{
	return i->clone ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

void instance_show_stale(const struct instance *i, const struct image *im)
{
	if (!i->clone || !im || !im->n_uses || image_has_died(im))
		instance_effects(i)->show(instance_model(i)->work, i->board_slot, 0);
}

void instance_retire(struct instance *i, const char *cause)
{
	struct image *im = i->current;

	if (!im)
		return;
	timer_stop(&i->expiry);
	timer_stop(&i->restart);
	instance_set_cause(i, cause);
	i->current = NULL;
	image_update_unused(im);
	if (i->state == INSTANCE_CHECKING)
		instance_effects(i)->abandon(i);
	if (i->state == INSTANCE_READY || i->state == INSTANCE_CHECKING)
		instance_set_idle(i);
	if (i->clone_of)
		pool_changed(i->clone_of);
	i->watch = instance_effects(i)->forget(i->watch);
	model_changed(instance_model(i));
	log_write(im->died ? LOG_LEVEL_INFO : instance_log_level(i), 0, "%s: generation %u is stale: %s", i->title, im->generation, cause);
	/* Whoever sees that it is stale finds in the log why. */
	instance_show_stale(i, im);
	event_of_instance(i, im, EVENT_STALE, cause);
	instance_retire_holders(i, im);
	image_unref(im);
}

void instance_refuse(struct instance *i, const char *cause)
{
	i->anew |= i->current != NULL;
	instance_retire(i, cause);
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

bool instance_is_stale(struct instance *i, int64_t asked)
{
	_cleanup_free_ char *cause = NULL;

	return i->current && policy_judge(i, asked, &cause) == VERDICT_STALE;
}

char *instance_inputs_changed(struct instance *i, int64_t asked)
{
	return i->watch ? instance_effects(i)->changed(i->watch, asked) : NULL;
}

void instance_log(struct instance *i, const char *data, size_t size)
{
	text_add_and_forget(&i->log, data, size, INSTANCE_LOG_MAX);
}

static void instance_look_again(void *arg)
{
	instance_propagate(arg);
}

void instance_torn_down(struct instance *i, const char *wrong)
{
	free(i->teardown_error);
	i->teardown_error = wrong ? xstrdup(wrong) : NULL;
}

void instance_image_unheld(struct image *im)
{
	struct instance *i = im->instance;

	instance_give_back(im);
	if (i && i->current == im)
		instance_rearm_expiry(i); /* its idle time starts */
	if (i && i->last == im && !i->current)
		instance_show_stale(i, im);
	if (i && im->n_leases == 0)
		instance_wake(i); /* who waits to be the only one */
}

void instance_image_gone(struct image *im)
{
	struct instance *i = im->instance;

	if (!i || i->last != im)
		return;
	i->last = NULL;
	if (i->clone_of)
		pool_lost(i->clone_of, im);
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

	if (!same_list(old->all_env, f->all_env) || !old->clones != !f->clones)
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
	instance_retire(i, other ? policy_other_definition(f) : "what it watches changed in the ini file");
	instance_clear_failure(i);
	edges_drop_all(i);
	i->watch = instance_effects(i)->forget(i->watch);
	i->told_untouched = i->told_unclean = false;
	i->fixture = f;
	if (f->source == SOURCE_CLIENT)
		i->eager_from = 0;
	instance_set_idle(i);
	return true;
}
