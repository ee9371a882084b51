/* SPDX-License-Identifier: MIT */
#include "fixd/model/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "fixd/loop/timer.h"
#include "fixd/model/client.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"

static void release_end(struct release *w, enum released how)
{
	struct image *im = w->image;

	timer_stop(&w->limit);
	link_remove(&w->link);
	w->client->n_pending--;
	im->torn_down |= how == RELEASED_LAST;
	w->answer(w, how);
	image_unref(im);
}

void run_last_is_lost(struct image *im)
{
	im->torn_down = false;
}

/* What somebody is tearing down is not given out any more. */
static void run_retire(struct image *im)
{
	struct instance *i = im->instance;

	if (!im->torn_down || !i || i->current != im)
		return;
	instance_retire(i, "it was torn down");
	instance_propagate(i);
}

/* By its own list and that of the image, whichever is shorter. */
static bool has_lease_of(const struct client *c, const struct image *im)
{
	const struct link *its = c->leases.next, *all = im->leases.next;

	for (; its != &c->leases && all != &im->leases; its = its->next, all = all->next) {
		const struct lease *a = link_entry(its, struct lease, in_client), *b = link_entry(all, struct lease, in_image);

		if ((a->image == im && !a->released) || (b->of == &c->leases && !b->released))
			return true;
	}
	return false;
}

/* Does that connection, or with NULL anybody, wait to be the last? */
static bool is_waiting(const struct run *r, const struct client *c, const struct image *im)
{
	link_for_each(l, &r->releases) {
		const struct release *w = link_entry(l, struct release, link);

		if (w->image == im && (!c || w->client == c))
			return true;
	}
	return false;
}

/* Not counting `but`, and those who only wait to be the last. */
static bool somebody_else_needs(const struct run *r, const struct image *im, const struct client *but)
{
	link_for_each(l, &r->members) {
		const struct member *m = link_entry(l, struct member, link);

		if (m->observer || m->client == but)
			continue;
		if (!m->closing && !(m->client->n_pending && is_waiting(r, m->client, im)))
			return true;
		/* Who waits may have got it anew meanwhile. */
		if (has_lease_of(m->client, im))
			return true;
	}
	return false;
}

bool run_needs(const struct run *r, const struct image *im)
{
	return is_waiting(r, NULL, im) || somebody_else_needs(r, im, NULL);
}

/* Everybody who could use the image waits: one of them is the last. Who can tear it down best is it, or who came last. */
static void run_elect(struct run *r, struct image *im)
{
	struct release *last = NULL;

	image_ref(im);
	link_for_each(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->image == im && (!last || last->client->id != im->preferred_teardown_client))
			last = w;
	}
	link_for_each_safe(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->image != im)
			continue;
		release_end(w, w == last && !im->torn_down ? RELEASED_LAST : RELEASED);
	}
	run_retire(im);
	image_unref(im);
}

/* One that has no end in sight, and waits for nothing. */
static bool somebody_needs_everything(const struct run *r)
{
	link_for_each(l, &r->members) {
		const struct member *m = link_entry(l, struct member, link);

		if (!m->observer && !m->closing && !m->client->n_pending)
			return true;
	}
	return false;
}

void run_settle(struct run *r)
{
	bool again;

	if (somebody_needs_everything(r))
		return;
	do {
		again = false;
		link_for_each(l, &r->releases) {
			struct image *im = link_entry(l, struct release, link)->image;

			if (somebody_else_needs(r, im, NULL))
				continue;
			run_elect(r, im);
			again = true;
			break;
		}
	} while (again);
}

static void run_give_up(void *arg)
{
	struct release *w = arg;

	/* Somebody else will have to. */
	if (w->image->preferred_teardown_client == w->client->id)
		w->image->preferred_teardown_client = 0;
	release_end(w, RELEASED_TIMED_OUT);
}

/* What lives longer than the run is torn down when it is retired. */
static bool is_torn_down_by(const struct run *r, const struct image *im)
{
	return im->teardown && !im->torn_down && im->of_run && im->run && !strcmp(im->run, r->id);
}

void run_release(struct member *m, struct image *im, struct release *w, bool wait, uint32_t timeout_ms)
{
	struct run *r = m->run;
	bool twice = is_waiting(r, m->client, im), ours = is_torn_down_by(r, im), needed;

	w->client = m->client;
	w->client->n_pending++;
	w->image = image_ref(im);
	link_init(&w->link);
	timer_init(&w->limit, run_give_up, w);
	if (twice) {
		release_end(w, RELEASED_TWICE);
		return;
	}
	image_ref(im);
	needed = somebody_else_needs(r, im, m->client) || is_waiting(r, NULL, im);
	/* A keeper who only asks comes again: nobody else is to be told meanwhile. */
	if (wait || !needed || im->preferred_teardown_client != m->client->id || !ours)
		lease_release(&m->client->leases, im);
	if (ours && wait) {
		link_insert(&r->releases, &w->link);
		timer_start_in(m->client->model->loop, &w->limit, timeout_ms * NSEC_PER_MSEC);
	} else {
		release_end(w, ours && !needed ? RELEASED_LAST : RELEASED);
	}
	run_retire(im);
	image_unref(im);
	run_settle(r);
}

void run_closing(struct member *m)
{
	m->closing = true;
	run_settle(m->run);
}

size_t run_size(const struct run *r)
{
	size_t n = 0;

	link_for_each(l, &r->members)
		n += !link_entry(l, struct member, link)->observer;
	return n;
}

static struct run *run_find(const struct session *s, const char *id)
{
	link_for_each(l, &s->runs) {
		struct run *r = link_entry(l, struct run, link);

		if (!strcmp(r->id, id))
			return r;
	}
	return NULL;
}

static int run_use_by_serial(const void *key, const void *use)
{
	uint64_t m = *(const uint64_t *)key, n = ((const struct use *)use)->serial;

	return m < n ? -1 : m > n;
}

/* NULL: there are too many. */
static struct use *use_of(struct run *r, const struct image *im)
{
	bool found;
	size_t at = vector_search(&r->uses, &im->serial, run_use_by_serial, &found);
	struct use *u;

	if (found)
		return r->uses.all[at];
	if (r->uses.n >= RUN_USES_MAX)
		return NULL;
	u = xcalloc(1, sizeof *u);
	u->serial = im->serial;
	u->title = xstrdup(im->title);
	u->generation = im->generation;
	vector_insert(&r->uses, at, u);
	return u;
}

void run_used(struct run *r, const struct image *im, bool built)
{
	struct use *u = use_of(r, im);

	if (!u)
		return;
	u->attaches++;
	u->built |= built;
}

static void use_free(struct use *u)
{
	free(u->title);
	free(u);
}

struct run *run_free(struct run *r)
{
	for (size_t k = 0; k < r->uses.n; k++)
		use_free(r->uses.all[k]);
	vector_deinit(&r->uses);
	link_remove(&r->link);
	free(r->id);
	free(r);
	return NULL;
}

struct run *run_resume(struct session *s, struct run *r)
{
	r->session = s;
	r->number = ++s->model->last_serial;
	link_init(&r->members);
	link_init(&r->releases);
	link_insert(r->ended_real ? &s->past : &s->runs, &r->link);
	s->n_past += r->ended_real != 0;
	return r;
}

void run_resume_use(struct run *r, struct use *u)
{
	bool found;
	size_t at = vector_search(&r->uses, &u->serial, run_use_by_serial, &found);

	if (found || r->uses.n >= RUN_USES_MAX)
		use_free(u);
	else
		vector_insert(&r->uses, at, u);
}

static struct run *run_new(struct session *s, const char *id)
{
	struct run *r = xcalloc(1, sizeof *r);

	r->session = s;
	r->number = ++s->model->last_serial;
	r->id = xstrdup(id);
	link_init(&r->members);
	link_init(&r->releases);
	r->began_real = model_real(s->model);
	link_insert(&s->runs, &r->link);
	s->calls->run_begins(s);
	log_debug("session %s: run %s begins", s->id, id);
	event_of_run(r, EVENT_RUN_BEGAN);
	return r;
}

void run_join(struct session *s, const char *id, struct client *c, bool observer)
{
	struct run *r = run_find(s, id);
	struct member *m = xcalloc(1, sizeof *m);

	if (!r)
		r = run_new(s, id);
	m->run = r;
	m->client = c;
	m->observer = observer;
	link_insert(&r->members, &m->link);
	r->n_joined += !observer && !s->model->loading;
	link_for_each(l, &c->leases)
		run_used(r, link_entry(l, struct lease, in_client)->image, false);
	c->member = m;
}

static void drop_releases(struct run *r, const struct client *c)
{
	link_for_each_safe(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->client == c)
			release_end(w, RELEASED_BY_END);
	}
}

void run_end(struct run *r)
{
	log_debug("session %s: run %s has ended", r->session->id, r->id);
	link_remove(&r->link);
	r->ended_real = model_real(r->session->model);
	event_of_run(r, EVENT_RUN_ENDED);
	r->session->calls->run_ended(r->session, r);
}

void run_leave(struct client *c)
{
	struct member *m = c->member;
	struct run *r = m ? m->run : NULL;

	if (!m)
		return;
	/* Whoever is told something meanwhile finds it gone. */
	c->member = NULL;
	link_remove(&m->link);
	free(m);
	drop_releases(r, c);
	if (!link_empty(&r->members))
		run_settle(r);
	else if (!r->session->model->loading)
		run_end(r);
}
