/* SPDX-License-Identifier: MIT */
#include "fixd/model/run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/process.h"
#include "fixd/daemon.h"
#include "fixd/loop/loop.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"

/* A member that waits until it is the last, or is not. */
struct release {
	struct link link; /* run::releases */
	struct run *run;
	struct conn *conn;
	struct image *image; /* a reference */
	struct wire_header header;
	struct timer limit;
	release_answer *answer;
};

static void release_free(struct release *w)
{
	timer_stop(&w->limit);
	link_remove(&w->link);
	w->conn->n_pending--;
	image_unref(w->image);
	free(w);
}

static void answer(struct conn *c, const struct wire_header *h, struct image *im, bool last, release_answer *fn)
{
	im->torn_down |= last;
	fn(c, h, im, last ? RELEASED_LAST : RELEASED);
}

void run_last_is_lost(struct image *im)
{
	im->torn_down = false;
}

/* What somebody is tearing down is not given out any more. */
static void retire(struct image *im)
{
	struct instance *i = im->instance;

	if (!im->torn_down || !i || i->current != im)
		return;
	instance_retire(i, "it was torn down");
	instance_settle(i);
}

static const struct lease *lease_of(const struct conn *c, const struct image *im)
{
	link_for_each(l, &c->leases) {
		const struct lease *lease = link_entry(l, struct lease, in_conn);

		if (lease->image == im && !lease->released)
			return lease;
	}
	return NULL;
}

/* Does that connection, or with NULL anybody, wait to be the last? */
static bool is_waiting(const struct run *r, const struct conn *c, const struct image *im)
{
	link_for_each(l, &r->releases) {
		const struct release *w = link_entry(l, struct release, link);

		if (w->image == im && (!c || w->conn == c))
			return true;
	}
	return false;
}

/* Not counting `but`, and those who only wait to be the last. */
static bool somebody_else_needs(const struct run *r, const struct image *im, const struct conn *but)
{
	link_for_each(l, &r->members) {
		const struct member *m = link_entry(l, struct member, link);

		if (m->observer || m->conn == but || is_waiting(r, m->conn, im))
			continue;
		if (!m->closing || lease_of(m->conn, im))
			return true;
	}
	return false;
}

bool run_needs(const struct run *r, const struct image *im)
{
	return is_waiting(r, NULL, im) || somebody_else_needs(r, im, NULL);
}

/* Everybody who could use the image waits: one of them is the last. Who can tear it down best is it, or who came last. */
static void elect(struct run *r, struct image *im)
{
	struct release *last = NULL;

	image_ref(im);
	link_for_each(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->image == im && (!last || last->conn->id != im->best_conn))
			last = w;
	}
	link_for_each_safe(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->image != im)
			continue;
		answer(w->conn, &w->header, im, w == last && !im->torn_down, w->answer);
		release_free(w);
	}
	retire(im);
	image_unref(im);
}

void run_settle(struct run *r)
{
	bool again;

	do {
		again = false;
		link_for_each(l, &r->releases) {
			struct image *im = link_entry(l, struct release, link)->image;

			if (somebody_else_needs(r, im, NULL))
				continue;
			elect(r, im);
			again = true;
			break;
		}
	} while (again);
}

static void give_up(void *arg)
{
	struct release *w = arg;

	/* Somebody else will have to. */
	if (w->image->best_conn == w->conn->id)
		w->image->best_conn = 0;
	w->answer(w->conn, &w->header, w->image, RELEASED_TIMED_OUT);
	release_free(w);
}

/* What lives longer than the run is torn down when it is retired. */
static bool is_torn_down_by(const struct run *r, const struct image *im)
{
	return im->teardown && !im->torn_down && im->of_run && !strcmp(im->run, r->id);
}

static void wait_for_others(struct member *m, struct image *im, const struct wire_header *h, uint32_t timeout_ms, release_answer *fn)
{
	struct release *w = xcalloc(1, sizeof *w);

	w->run = m->run;
	w->conn = m->conn;
	w->conn->n_pending++;
	w->image = image_ref(im);
	w->header = *h;
	w->answer = fn;
	link_insert(&m->run->releases, &w->link);
	timer_init(&w->limit, give_up, w);
	timer_start(m->conn->daemon->loop, &w->limit, clock_now() + timeout_ms * NSEC_PER_MSEC);
}

void run_release(struct member *m, struct image *im, const struct wire_header *h, const struct wire_release *q, release_answer *fn)
{
	struct run *r = m->run;
	bool wait = q->flags & WIRE_RELEASE_WAIT, needed;

	if (is_waiting(r, m->conn, im)) {
		fn(m->conn, h, im, RELEASED_TWICE);
		return;
	}
	image_ref(im);
	needed = somebody_else_needs(r, im, m->conn) || is_waiting(r, NULL, im);
	/* A keeper who only asks comes again: nobody else is to be told meanwhile. */
	if (wait || !needed || im->best_conn != m->conn->id || !is_torn_down_by(r, im))
		lease_release(&m->conn->leases, im);
	if (!is_torn_down_by(r, im))
		answer(m->conn, h, im, false, fn);
	else if (wait)
		wait_for_others(m, im, h, q->timeout_ms, fn);
	else
		answer(m->conn, h, im, !needed, fn);
	retire(im);
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

static int by_serial(const void *key, const void *use)
{
	uint64_t m = *(const uint64_t *)key, n = ((const struct use *)use)->serial;

	return m < n ? -1 : m > n;
}

/* NULL: there are too many. */
static struct use *use_of(struct run *r, const struct image *im)
{
	bool found;
	size_t at = vector_search(&r->uses, &im->serial, by_serial, &found);
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
	r->number = ++s->daemon->last_serial;
	link_init(&r->members);
	link_init(&r->releases);
	link_insert(r->ended_real ? &s->past : &s->runs, &r->link);
	s->n_past += r->ended_real != 0;
	return r;
}

void run_resume_use(struct run *r, struct use *u)
{
	bool found;
	size_t at = vector_search(&r->uses, &u->serial, by_serial, &found);

	if (found || r->uses.n >= RUN_USES_MAX)
		use_free(u);
	else
		vector_insert(&r->uses, at, u);
}

void run_each_release(const struct run *r, void (*fn)(const struct conn *c, const struct wire_header *h, uint64_t serial,
					       int64_t deadline, void *arg), void *arg)
{
	link_for_each(l, &r->releases) {
		const struct release *w = link_entry(l, struct release, link);

		fn(w->conn, &w->header, w->image->serial, w->limit.deadline, arg);
	}
}

static struct run *run_new(struct session *s, const char *id)
{
	struct run *r = xcalloc(1, sizeof *r);

	r->session = s;
	r->number = ++s->daemon->last_serial;
	r->id = xstrdup(id);
	link_init(&r->members);
	link_init(&r->releases);
	r->began_real = clock_real();
	link_insert(&s->runs, &r->link);
	s->calls->run_begins(s);
	log_debug("session %s: run %s begins", s->id, id);
	event_of_run(r, EVENT_RUN_BEGAN);
	return r;
}

/* A process that has ended uses nothing, whoever has inherited its connection. */
static void on_process_end(void *arg)
{
	struct member *m = arg;

	m->conn->member = run_leave(m);
}

struct member *run_join(struct session *s, const char *id, struct conn *c, bool observer)
{
	struct run *r = run_find(s, id);
	struct member *m = xcalloc(1, sizeof *m);
	int pidfd;

	if (!r)
		r = run_new(s, id);
	m->run = r;
	m->conn = c;
	m->observer = observer;
	link_insert(&r->members, &m->link);
	r->n_joined += !observer;
	link_for_each(l, &c->leases)
		run_used(r, link_entry(l, struct lease, in_conn)->image, false);
	/* A client in another pid namespace has no number here: then the end of its connection must do. */
	pidfd = c->pid > 0 ? process_open(c->pid) : -1;
	if (c->pid > 0 && pidfd == -ESRCH)
		return run_leave(m); /* it has ended meanwhile */
	if (pidfd >= 0)
		m->process = loop_watch(c->daemon->loop, pidfd, on_process_end, m);
	return m;
}

void run_forget(struct conn *c)
{
	struct run *r = c->member ? c->member->run : NULL;

	if (!r)
		return;
	link_for_each_safe(l, &r->releases) {
		struct release *w = link_entry(l, struct release, link);

		if (w->conn == c)
			release_free(w);
	}
}

void run_end(struct run *r)
{
	log_debug("session %s: run %s has ended", r->session->id, r->id);
	link_remove(&r->link);
	r->ended_real = clock_real();
	event_of_run(r, EVENT_RUN_ENDED);
	r->session->calls->run_ended(r->session, r);
}

struct member *run_leave(struct member *m)
{
	struct run *r;

	if (!m)
		return NULL;
	r = m->run;
	run_forget(m->conn);
	source_close(m->process);
	link_remove(&m->link);
	free(m);
	if (!link_empty(&r->members))
		run_settle(r);
	else if (!r->session->daemon->loading)
		run_end(r);
	return NULL;
}
