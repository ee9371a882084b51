/* SPDX-License-Identifier: MIT */
#include "fixd/model/supply.h"

#include <errno.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "config/config.h"
#include "fixd/model/account.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"

/* In one turn of the loop so many who wait are served. */
#define SERVED_MAX 64
/* Has somebody given memory back? */
#define LOOK_AGAIN (100 * NSEC_PER_MSEC)

static struct model *model_of(const struct pool *p)
{
	return p->front->session->model;
}

static unsigned clones_max(const struct pool *p)
{
	return (unsigned)p->front->fixture->clones;
}

static bool is_full(const struct pool *p)
{
	struct pool_count n = pool_count(p);

	return n.ready + n.starting + n.held + n.ending >= clones_max(p);
}

static struct instance *find_clone(const struct pool *p, enum clone_kind kind)
{
	for (size_t k = 0; k < p->clones.n; k++) {
		if (pool_clone_kind(p->clones.all[k]) == kind)
			return p->clones.all[k];
	}
	return NULL;
}

static struct instance *add_clone(struct pool *p, int *err)
{
	struct instance *front = p->front, *clone = NULL;
	_cleanup_free_ char *name = instance_plain_name(front);
	_cleanup_free_ char *id = xasprintf("%s/%llu", name, (unsigned long long)++model_of(p)->last_clone);
	struct instance_lookup place = { front->param, front->scope_key, front->env, front->run, id };

	*err = front->session->calls->instance(front->session, front->fixture, &place, &clone);
	return clone;
}

/* What one more would take, and those that start: as much as the smallest has, to which its holder has added least. 0: not known. */
static uint64_t bytes_of_more(const struct pool *p)
{
	uint64_t least = UINT64_MAX;

	for (size_t k = 0; k < p->clones.n; k++) {
		const struct image *im = ((struct instance *)p->clones.all[k])->last;

		if (im && im->bytes < least)
			least = im->bytes;
	}
	return least == UINT64_MAX ? 0 : least * (pool_count(p).starting + 1);
}

/* Who waits may have to do so until another one lets go; the first one is always tried. */
static bool is_short_of_memory(struct pool *p)
{
	struct model *m = model_of(p);
	uint64_t bytes = bytes_of_more(p);

	if (!bytes || reclaim_memory(m, bytes) == 0)
		return false;
	timer_start_in(m->loop, &p->retry, LOOK_AGAIN);
	return true;
}

static bool waits_for_retry(const struct pool *p)
{
	return model_now(model_of(p)) < p->retry_at;
}

static void forgive(struct instance *i, void *arg)
{
	const struct instance *clone = arg;

	if (i->clone && !strcmp(i->clone, clone->clone))
		instance_clear_failure(i);
}

/* A place for one that is to be started, if there may be one more. NULL, and *err: why there can be none (0: there are enough). */
static struct instance *find_place(struct pool *p, int *err)
{
	struct instance *place;

	*err = 0;
	if (is_full(p) || is_short_of_memory(p))
		return NULL;
	if (!waits_for_retry(p) && (place = find_clone(p, CLONE_FAILED))) {
		instance_clear_failure(place);
		return place;
	}
	place = find_clone(p, CLONE_EMPTY);
	/* What it needs of its own may have failed. */
	if (place && p->failures && !waits_for_retry(p))
		session_each(place->session, forgive, place);
	return place ? place : add_clone(p, err);
}

/* It would not be given up at once, or something else for it. */
static bool has_room(const struct pool *p)
{
	const struct model *m = model_of(p);

	return m->account.bytes + bytes_of_more(p) < m->config->memory_max &&
	       account_descriptors(m) + 1 + KEEPER_DESCRIPTORS < m->descriptors_max;
}

static unsigned count_spare(const struct pool *p)
{
	struct pool_count n = pool_count(p);

	return n.ready + n.starting;
}

/* Ahead of those who will ask. */
static void start_spare(struct pool *p)
{
	const struct model *m = model_of(p);
	struct instance *clone;
	int err;

	if (m->stopping || m->restarting || m->loading || !link_empty(&p->front->waiters))
		return;
	if (waits_for_retry(p)) {
		timer_start(m->loop, &p->retry, p->retry_at);
		return;
	}
	while (count_spare(p) < p->wanted && has_room(p) && (clone = find_place(p, &err))) {
		instance_begin(clone);
		/* What it needs cannot be had. */
		if (pool_clone_kind(clone) != CLONE_STARTING) {
			pool_failed(p, clone);
			return;
		}
	}
}

static void end_surplus(struct pool *p)
{
	struct instance *clone;

	while (pool_count(p).ready > p->wanted && (clone = find_clone(p, CLONE_READY))) {
		instance_retire(clone, "so many clones are not needed now");
		instance_wake(clone);
	}
}

static struct waiter *first_waiter(const struct pool *p)
{
	return link_empty(&p->front->waiters) ? NULL : link_entry(p->front->waiters.next, struct waiter, link);
}

static void fail_first(struct pool *p, char *sentence)
{
	instance_set_error(p->front, sentence);
	waiter_answer(first_waiter(p), OUTCOME_FAILED);
}

/* Who only wants to know that one is ready needs none of its own. */
static size_t count_needed(const struct pool *p)
{
	const struct instance *front = p->front;

	return front->n_holders ? front->n_holders : front->n_waiters > 0;
}

/* To whoever has waited longest; who is left is served again when too many are served already (false). */
static bool give_ready(struct pool *p)
{
	struct instance *clone;
	struct waiter *w;

	for (int n = 0; (w = first_waiter(p)) && (clone = find_clone(p, CLONE_READY)); n++) {
		if (n == SERVED_MAX)
			return false;
		if (waiter_take(w, clone))
			continue;
		/* It is stale for this one, or has to be looked at before: one look for each who waits will do. */
		if (pool_clone_kind(clone) == CLONE_STARTING && pool_count(p).starting >= count_needed(p))
			break;
	}
	return true;
}

/* Those that are there, and are looked at. */
static size_t count_looks(const struct pool *p)
{
	size_t n = 0;

	for (size_t k = 0; k < p->clones.n; k++) {
		const struct instance *clone = p->clones.all[k];

		n += pool_clone_kind(clone) == CLONE_STARTING && clone->current;
	}
	return n;
}

/* One was not enough, and that is no beginning of a run any more. */
static void note_shortage(struct pool *p)
{
	struct link *waiters = &p->front->waiters, *l;
	size_t enough = count_looks(p), n = 0;

	/* Those who wait for a look already, and then the new ones. */
	for (l = waiters->next; l != waiters && link_entry(l, struct waiter, link)->built && n < enough; l = l->next)
		n++;
	for (l = waiters->prev; l != waiters; l = l->prev) {
		struct waiter *w = link_entry(l, struct waiter, link);

		if (w->built)
			return;
		w->built = true;
		if (!w->holds || !p->figures.given)
			continue;
		if (n < enough)
			n++;
		else if (p->wanted < clones_max(p))
			p->wanted++;
	}
}

/* One more, for those who wait. False: there can be none now. */
static bool start_one(struct pool *p)
{
	struct instance *failed = waits_for_retry(p) && !is_full(p) ? find_clone(p, CLONE_FAILED) : NULL, *clone;
	int err;

	if (failed && pool_count(p).starting) {
		/* Those may do better. */
		timer_start(model_of(p)->loop, &p->retry, p->retry_at);
		return false;
	}
	if (failed) {
		/* That is the answer, or something has changed that may cure it. */
		waiter_take(first_waiter(p), failed);
		return true;
	}
	clone = find_place(p, &err);
	if (clone)
		instance_begin(clone);
	else if (err)
		fail_first(p,
			   xasprintf("there can be no clone of it: %s", err == -ENOSPC ? "there are too many instances" : strerror(-err)));
	return clone || err;
}

/* One for each who waits, and they get what is ready first. */
static void supply_serve(struct pool *p)
{
	if (!p->wanted)
		p->wanted = 1;
	if (!give_ready(p)) {
		pool_changed(p);
		return;
	}
	note_shortage(p);
	for (int n = 0; pool_count(p).starting < count_needed(p) && start_one(p); n++) {
		if (n == SERVED_MAX) {
			pool_changed(p);
			return;
		}
	}
}

/* What has not begun yet is for nobody any more. */
static void end_needless(struct pool *p)
{
	size_t needed = count_needed(p), n = pool_count(p).starting;

	if (needed < p->wanted)
		needed = p->wanted;
	for (size_t k = p->clones.n; n > needed && k-- > 0;) {
		struct instance *clone = p->clones.all[k];

		if (pool_clone_kind(clone) == CLONE_STARTING && !clone->current) {
			instance_give_up(clone);
			n--;
		}
	}
}

static void serve_again(void *arg)
{
	struct pool *p = arg;

	/* Where nobody has one, nor could at once, nobody had asked since they were given up. */
	if (p->resumed)
		p->wanted = pool_count(p).ready ? pool_count(p).ready : pool_count(p).held ? 1 : 0;
	p->resumed = false;
	if (!link_empty(&p->front->waiters))
		supply_serve(p);
	end_needless(p);
	if (link_empty(&p->front->waiters))
		end_surplus(p);
	start_spare(p);
}

static void supply_on_idle(void *arg)
{
	struct pool *p = arg;

	p->wanted = (p->wanted + 1) / 2;
	end_surplus(p);
	if (p->wanted > 1)
		timer_start_in(model_of(p)->loop, &p->idle, POOL_IDLE);
}

struct pool *supply_new(struct instance *front)
{
	struct pool *p = xcalloc(1, sizeof *p);

	p->front = front;
	deferred_init(&p->serving, serve_again, p);
	timer_init(&p->retry, serve_again, p);
	timer_init(&p->idle, supply_on_idle, p);
	return p;
}
