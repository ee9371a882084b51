/* SPDX-License-Identifier: MIT */
#include "fixd/model/waiter.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/session.h"

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
	struct pool *p = w->instance->clone_of;

	waiter_remove(w);
	if (p && w->holds && outcome == OUTCOME_READY)
		pool_gave(p, w->instance->current, model_now(instance_model(w->instance)) - w->asked);
	w->answer(w, outcome);
}

static const struct instance *first_waiting_dependent(const struct instance *i)
{
	link_for_each(l, &i->dependents) {
		const struct instance *from = link_entry(l, struct edge, in_dependency)->from;

		if (from->state == INSTANCE_WAITING)
			return from;
	}
	return NULL;
}

static bool is_asked(const struct instance *i)
{
	return !link_empty(&i->waiters) || i->eager_from;
}

static void settle(struct instance *i);

static void settle_needs(struct instance *i)
{
	for (size_t k = 0; k < i->n_edges; k++) {
		if (i->edges[k].to)
			settle(i->edges[k].to);
	}
}

/* Does it wait, and has everybody left who waits for it, then it does not, nor what it waited for. */
static void settle(struct instance *i)
{
	if (i->state != INSTANCE_WAITING || is_asked(i) || first_waiting_dependent(i))
		return;
	instance_unpin(i);
	instance_set_idle(i);
	settle_needs(i);
}

/* The dependency `k`, made when it is not there yet: it takes its part of our scope key and of our environment. */
static struct instance *waiter_dependency(struct instance *i, size_t k, int *err)
{
	const struct depend *d = &i->fixture->depends[k];
	struct instance *dep = edge_to(i, k);

	*err = 0;
	if (dep)
		return dep;
	*err = i->session->calls->instance(i->session, d->fixture,
					   &(struct instance_lookup){ d->param, i->scope_key, i->env, i->run, edge_clone(i, d->fixture) },
					   &dep);
	if (dep)
		edge_set(i, k, dep);
	return dep;
}

/* One look through all that an instance depends on. Nobody is asked twice in it. */
struct resolution {
	uint64_t number;
	int64_t asked; /* for somebody who asked then */
};

/* Failed: what has waited before waits on, for those who asked later; who has resolved it settles that. */
static enum outcome waiter_resolve(struct instance *i, const struct resolution *r);

/* All dependencies, each pinned once it is ready. */
static enum outcome resolve_dependencies(struct instance *i, const struct resolution *r)
{
	size_t n = i->fixture->n_depends;
	enum outcome all = OUTCOME_READY;

	if (n && !i->pins)
		i->pins = xcalloc(n, sizeof *i->pins);
	for (size_t k = 0; k < n; k++) {
		int err;
		struct instance *dep = waiter_dependency(i, k, &err);
		enum outcome one = dep ? waiter_resolve(dep, r) : OUTCOME_FAILED;

		instance_set_pin(i, k, NULL);
		if (one == OUTCOME_FAILED) {
			instance_set_error(
				i, xasprintf("it depends on '%s': %s", i->fixture->depends[k].name, dep ? dep->error : strerror(-err)));
			instance_unpin(i);
			return OUTCOME_FAILED;
		}
		if (one == OUTCOME_READY)
			instance_set_pin(i, k, dep->current);
		else
			all = OUTCOME_PENDING;
	}
	return all;
}

static const char *other_dependency(const struct instance *i)
{
	for (size_t k = 0; k < i->fixture->n_depends; k++) {
		if (!image_built_with(i->current, k, i->pins[k]))
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
		if (!digest_equal(im->dep_digests[k], image_identity(w->depends[k])))
			return w->depends[k]->title;
	}
	return w->n_depends == im->n_depends ? NULL : "another one than before";
}

/* `w`: of what clients build, who asks. */
static enum outcome judge_current(struct instance *i, int64_t asked, const struct waiter *w)
{
	_cleanup_free_ char *cause = NULL, *too_old = NULL;
	const char *dep = NULL;
	enum verdict v;

	/* Its end has come so recently that nobody was told: instance_service_died() is to follow. */
	if (i->current->kept_by && instance_effects(i)->is_dying(i->current)) {
		i->state = INSTANCE_CHECKING;
		return OUTCOME_PENDING;
	}
	v = policy_judge(i, asked, &cause);

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
		if (i->error)
			instance_set_error(i, NULL);
		return OUTCOME_READY;
	case VERDICT_STALE:
		too_old = policy_too_old(i);
		i->anew |= too_old != NULL;
		instance_retire(i, cause);
		return OUTCOME_FAILED;
	default:
		i->state = INSTANCE_CHECKING;
		instance_effects(i)->check(i, v, cause);
		return OUTCOME_PENDING;
	}
}

/* What was lacking for a moment is there again. */
#define NOT_STARTED_RETRY NSEC_PER_SEC

const char *waiter_retry_cause(const struct instance *i)
{
	const struct policy *p = &i->fixture->policy;

	if (!i->failed)
		return NULL;
	if (i->failed_full && i->session->model->account.bytes < i->failed_full)
		return "there is more room than there was";
	if (!digest_equal(i->failed_section, i->fixture->section))
		return "its definition changed";
	if (i->not_started && model_now(instance_model(i)) - i->failed_at >= NOT_STARTED_RETRY)
		return "its builder could not be started then";
	if (p->retry_after != DURATION_NONE && model_now(instance_model(i)) - i->failed_at >= p->retry_after)
		return "retry-after has passed";
	return NULL;
}

static bool may_retry(struct instance *i, int64_t asked)
{
	_cleanup_free_ char *changed = NULL;

	if (i->failed_at >= asked)
		return false; /* that was the answer */
	changed = instance_inputs_changed(i, asked);
	if (changed)
		log_debug("%s: trying again: %s", i->title, changed);
	return changed || waiter_retry_cause(i);
}

/* Another dependency may cure what failed with the old one. */
static bool other_dependencies_than_failed(const struct instance *i)
{
	for (size_t k = 0; i->failed_with && k < i->fixture->n_depends; k++) {
		/* That of a clone is another one each time. */
		if (i->pins[k]->serial != i->failed_with[k] && !edge_clone(i, i->fixture->depends[k].fixture))
			return true;
	}
	return false;
}

/* It has failed, and whether its inputs have changed since then is not known yet: it is asked again. */
static bool looks_longer(struct instance *i, int64_t asked)
{
	if (!i->failed || i->failed_at >= asked || !i->watch || instance_effects(i)->look(i->watch, asked))
		return false;
	i->state = INSTANCE_CHECKING;
	instance_effects(i)->check(i, VERDICT_LOOK_ON, NULL);
	return true;
}

static enum outcome resolve_anew(struct instance *i, const struct resolution *r)
{
	int64_t asked = r->asked;
	enum outcome deps;

	/* That was the answer, whatever has become of its dependencies. */
	if (!i->current && i->failed && i->failed_at >= asked) {
		instance_set_error(i, xstrdup(i->failed_error));
		return OUTCOME_FAILED;
	}
	/* It is not idle while dependencies are made for it: those may take the place of what is. */
	if (!i->current)
		i->state = INSTANCE_WAITING;
	deps = resolve_dependencies(i, r);
	if (deps == OUTCOME_FAILED)
		return OUTCOME_FAILED;
	if (deps == OUTCOME_PENDING) {
		i->state = INSTANCE_WAITING;
		return OUTCOME_PENDING;
	}
	if (i->current) {
		enum outcome now = judge_current(i, asked, NULL);

		if (now != OUTCOME_FAILED) {
			if (i->pins)
				instance_unpin(i);
			return now;
		}
	}
	if (looks_longer(i, asked)) {
		instance_unpin(i);
		return OUTCOME_PENDING;
	}
	if (i->failed && !may_retry(i, asked) && !other_dependencies_than_failed(i)) {
		instance_unpin(i);
		instance_set_error(i, xstrdup(i->failed_error)); /* not what a dependency said meanwhile */
		return OUTCOME_FAILED;
	}
	/* What is still torn down, or must be the only one, comes first. */
	if ((i->last && (i->last->ending || i->fixture->exclusive)) ||
	    instance_effects(i)->is_blocked(i->session->model->work, i->fixture->name)) {
		i->state = INSTANCE_WAITING;
		return OUTCOME_PENDING;
	}
	i->state = INSTANCE_BUILDING;
	instance_effects(i)->build(i);
	return OUTCOME_PENDING;
}

static enum outcome waiter_resolve(struct instance *i, const struct resolution *r)
{
	bool waited = i->state == INSTANCE_WAITING;

	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return OUTCOME_PENDING;
	if (i->resolved_in != r->number) {
		i->resolved_as = resolve_anew(i, r);
		i->resolved_in = r->number;
		if (i->resolved_as == OUTCOME_FAILED && i->state == INSTANCE_WAITING && !waited) {
			instance_set_idle(i);
			settle_needs(i);
		}
	}
	return i->resolved_as;
}

static enum outcome resolve_for(struct instance *i, int64_t asked)
{
	return waiter_resolve(i, &(struct resolution){ ++i->session->model->n_resolutions, asked });
}

static enum outcome offer_to_a_waiter(struct instance *i, struct waiter *w)
{
	char *wrong;

	if (i->n_builders == 0) {
		instance_set_idle(i);
		instance_set_error(i, xstrdup(NOBODY_BUILDS));
		return OUTCOME_FAILED;
	}
	while (!w->can_build)
		w = link_entry(w->link.next == &i->waiters ? i->waiters.next : w->link.next, struct waiter, link);
	if (!w->look(w)) {
		i->state = INSTANCE_CHECKING;
		instance_effects(i)->check(i, VERDICT_LOOK_ON, NULL);
		return OUTCOME_PENDING;
	}
	waiter_remove(w);
	i->state = INSTANCE_BUILDING;
	wrong = w->offer(w);
	if (!wrong)
		return OUTCOME_PENDING;
	/* It waits in front again, to be answered. */
	waiter_add(i, w, i->waiters.next);
	instance_set_idle(i);
	instance_set_error(i, wrong);
	return OUTCOME_FAILED;
}

/* Of what clients build: the dependencies are what the asker says. */
static enum outcome resolve_client(struct instance *i, struct waiter *w)
{
	enum outcome now;

	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return OUTCOME_PENDING;
	if (i->current && (now = judge_current(i, w->asked, w)) != OUTCOME_FAILED)
		return now;
	if (looks_longer(i, w->asked))
		return OUTCOME_PENDING;
	if (i->failed && !may_retry(i, w->asked)) {
		instance_set_idle(i);
		instance_set_error(i, xstrdup(i->failed_error));
		return OUTCOME_FAILED;
	}
	instance_clear_failure(i);
	return offer_to_a_waiter(i, w);
}

/* Who has come last has not heard of it yet. */
static void note_waiting(struct instance *i)
{
	for (struct link *l = i->waiters.prev; l != &i->waiters && !link_entry(l, struct waiter, link)->built; l = l->prev)
		link_entry(l, struct waiter, link)->built = true;
}

/* Does it have to wait until another one lets go of it? */
static bool is_taken(const struct instance *i, const struct waiter *w)
{
	return i->fixture->exclusive && w->holds && i->current && i->current->n_leases;
}

static struct waiter *next_waiter(const struct instance *i)
{
	/* Who only wants it to be built may be behind those who wait for it to be given back. */
	if (!link_empty(&i->waiters) && i->n_holders == i->n_waiters && is_taken(i, link_entry(i->waiters.next, struct waiter, link)))
		return NULL;
	link_for_each(l, &i->waiters) {
		struct waiter *w = link_entry(l, struct waiter, link);

		if (!is_taken(i, w))
			return w;
	}
	return NULL;
}

/* What a clone was begun for at that time is there, or cannot be: whoever waits longest, if it has waited since then, is told why. */
static void tell_pool(const struct instance *clone, int64_t asked, enum outcome outcome)
{
	struct instance *front = clone->clone_of->front;
	struct waiter *w;

	pool_changed(clone->clone_of);
	if (outcome == OUTCOME_READY || link_empty(&front->waiters))
		return;
	w = link_entry(front->waiters.next, struct waiter, link);
	if (w->asked > asked)
		return;
	instance_set_error(front, xstrdup(clone->error));
	waiter_answer(w, OUTCOME_FAILED);
}

/* In one turn of the loop so many are answered. */
#define ANSWERS_MAX 64

/* Answers who can be answered, each by what holds for the time at which it asked. */
static void waiters_advance(struct instance *i)
{
	struct waiter *w;

	for (int n = 0; (w = next_waiter(i)); n++) {
		bool by_client = i->fixture->source == SOURCE_CLIENT;
		enum outcome outcome;

		if (n == ANSWERS_MAX) {
			instance_wake(i);
			return;
		}
		outcome = by_client ? resolve_client(i, w) : resolve_for(i, w->asked);
		if (outcome == OUTCOME_PENDING) {
			note_waiting(i);
			return;
		}
		waiter_answer(w, outcome);
	}
	if (i->eager_from) {
		int64_t asked = i->eager_from;
		enum outcome outcome = resolve_for(i, asked);

		if (outcome == OUTCOME_PENDING)
			return;
		i->eager_from = 0;
		if (i->clone_of)
			tell_pool(i, asked, outcome);
	}
	settle(i);
}

void instance_wake(struct instance *i)
{
	/* Who waits for it through others may do so while it has failed for whoever asked earlier. */
	if (link_empty(&i->waiters) && i->state != INSTANCE_WAITING && !first_waiting_dependent(i))
		return;
	loop_defer(i->session->model->loop, &i->waking);
}

void waiter_begin(struct instance *i, struct waiter *w)
{
	w->instance = i;
	waiter_add(i, w, &i->waiters);
	if (i->pool) {
		pool_changed(i->pool);
		return;
	}
	/* Its end is told. */
	if (i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		w->built = true;
	else
		waiters_advance(i);
}

bool waiter_take(struct waiter *w, struct instance *clone)
{
	enum outcome outcome = resolve_for(clone, w->asked);

	switch (outcome) {
	case OUTCOME_READY:
		waiter_remove(w);
		w->instance = clone;
		waiter_answer(w, outcome);
		return true;
	case OUTCOME_FAILED:
		settle(clone);
		tell_pool(clone, w->asked, outcome);
		return true;
	case OUTCOME_PENDING:
		/* It is made anew for whoever waits longest then; that of what has to end first is begun by the pool. */
		if (clone->last && !clone->current)
			instance_give_up(clone);
		else if (!clone->eager_from)
			clone->eager_from = w->asked;
	}
	return false;
}

/* Nobody wants it any more, nor what it waits for. */
static void waiters_withdraw(struct instance *i)
{
	if (is_asked(i) || first_waiting_dependent(i))
		return;
	if (i->state != INSTANCE_WAITING && (i->state != INSTANCE_BUILDING || !instance_effects(i)->withdraw(i)))
		return;
	instance_unpin(i);
	instance_set_idle(i);
	for (size_t k = 0; k < i->n_edges; k++) {
		if (i->edges[k].to)
			waiters_withdraw(i->edges[k].to);
	}
}

void waiter_cancel(struct waiter *w)
{
	waiter_remove(w);
	waiters_withdraw(w->instance);
	if (w->instance->pool)
		pool_changed(w->instance->pool);
}

void instance_give_up(struct instance *i)
{
	i->eager_from = 0;
	waiters_withdraw(i);
}

/* Those that start are each for one of those who wait, in their order. NULL: for nobody. */
static const struct waiter *waiter_of_clone(const struct instance *clone)
{
	const struct pool *p = clone->clone_of;
	const struct link *l = p->front->waiters.next;

	for (size_t k = 0; p->clones.all[k] != clone && l != &p->front->waiters; k++) {
		if (pool_clone_kind(p->clones.all[k]) == CLONE_STARTING)
			l = l->next;
	}
	return l == &p->front->waiters ? NULL : link_entry(l, struct waiter, link);
}

struct user *instance_asker(const struct instance *i)
{
	for (; i; i = first_waiting_dependent(i)) {
		const struct waiter *w = i->clone_of		   ? waiter_of_clone(i)
					 : link_empty(&i->waiters) ? NULL
								   : link_entry(i->waiters.next, struct waiter, link);

		if (w)
			return w->user;
	}
	return NULL;
}

void instance_warm(struct instance *i)
{
	if (i->pool)
		pool_warm(i->pool);
	else if (i->clone_of)
		pool_changed(i->clone_of);
	else if (!i->clone)
		instance_begin(i);
}

void instance_begin(struct instance *i)
{
	if (!i->eager_from)
		i->eager_from = model_now(instance_model(i));
	waiters_advance(i);
}

/* Those who wait, directly or through others, for `i`. */
static void collect_dependents(struct instance *i, uint64_t mark, struct vector *list)
{
	size_t next = 0;

	i->mark = mark;
	for (;;) {
		link_for_each(l, &i->dependents) {
			struct instance *from = link_entry(l, struct edge, in_dependency)->from;

			if (from->state != INSTANCE_WAITING || from->mark == mark)
				continue;
			from->mark = mark;
			vector_add(list, from);
		}
		if (next == list->n)
			return;
		i = list->all[next++];
	}
}

void instance_propagate(struct instance *i)
{
	_cleanup_vector_ struct vector list = { 0 };

	if (i->pool) {
		pool_changed(i->pool);
		return;
	}
	waiters_advance(i);
	/* Those who want it through others ask for it anew. */
	if (i->state == INSTANCE_WAITING && !is_asked(i)) {
		instance_unpin(i);
		instance_set_idle(i);
	}
	instance_check_dependencies(i);
	if (i->clone_of)
		pool_changed(i->clone_of);
	/* Its end will be settled, too. */
	if (i->state == INSTANCE_WAITING || i->state == INSTANCE_BUILDING || i->state == INSTANCE_CHECKING)
		return;
	collect_dependents(i, ++instance_model(i)->last_mark, &list);
	/* Who was only wanted by others is wanted again by them, if they still want it. */
	for (size_t k = 0; k < list.n; k++) {
		if (!is_asked(list.all[k])) {
			instance_unpin(list.all[k]);
			instance_set_idle(list.all[k]);
		}
	}
	for (size_t k = 0; k < list.n; k++) {
		if (is_asked(list.all[k]))
			waiters_advance(list.all[k]);
	}
	/* Who it was built for may not want it any more. */
	if (i->clone && !i->clone_of && i->current)
		instance_give_back(i->current);
}
