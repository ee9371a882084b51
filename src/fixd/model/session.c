/* SPDX-License-Identifier: MIT */
#include "fixd/model/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/orphan.h"
#include "fixd/model/run.h"
#include "fixd/model/user.h"

static void run_begins(struct session *s);
static void run_ended(struct session *s, struct run *r);

static const struct session_calls calls = {
	.instance = session_instance,
	.run_begins = run_begins,
	.run_ended = run_ended,
};

/* 0, or -errno: also that its user may not look. */
int session_look_at_root(const struct session *s)
{
	return s->model->effects->look_at_root(s);
}

struct session *session_new(struct model *m, const char *root, uid_t uid)
{
	struct session *s = xcalloc(1, sizeof *s);
	_cleanup_free_ char *identity = xasprintf("%u:%s", (unsigned)uid, root);

	s->model = m;
	s->calls = &calls;
	s->number = ++m->last_serial;
	s->root = xstrdup(root);
	s->uid = uid;
	s->user = user_get(m, uid);
	s->user->n_sessions++;
	s->created_real = model_real(m);
	s->root_seen = !s->user->limited && session_look_at_root(s) == 0;
	s->changes = 1;
	link_init(&s->loose);
	link_init(&s->runs);
	link_init(&s->past);
	link_init(&s->images);
	link_init(&s->orphans);
	link_insert(&m->sessions, &s->link);
	snprintf(s->id, sizeof s->id, "sess-%06x", (unsigned)(digest_bytes(identity, strlen(identity)).low & 0xffffff));
	return s;
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	while (s->instances.n) {
		struct instance *i = s->instances.all[s->instances.n - 1];

		vector_remove(&s->instances, s->instances.n - 1);
		s->user->n_instances--;
		instance_free(i);
	}
	vector_deinit(&s->instances);
	link_for_each_safe(l, &s->images) {
		struct image *im = link_entry(l, struct image, in_session);

		link_remove(&im->in_session);
		im->session = NULL; /* a reply on its way may still hold it */
	}
	while (!link_empty(&s->orphans))
		orphan_free(link_entry(s->orphans.next, struct orphan, link));
	link_for_each_safe(l, &s->past)
		run_free(link_entry(l, struct run, link));
	for (size_t k = 0; k < s->n_fixtures; k++)
		fixture_free(s->fixtures[k]);
	free(s->fixtures);
	free(s->recents);
	s->user->n_fixtures -= s->n_fixtures;
	link_remove(&s->link);
	s->user->n_sessions--;
	user_unref(s->user);
	free(s->root);
	free(s->viewer);
	free(s);
	return NULL;
}

bool session_wants_viewer(const struct session *s)
{
	return s->user->limited && !s->viewer;
}

void session_take_viewer(struct session *s, struct viewer *v)
{
	s->viewer = v;
	s->root_seen = session_look_at_root(s) == 0;
}

struct session *session_by_number(const struct model *m, uint64_t number)
{
	link_for_each(l, &m->sessions) {
		if (link_entry(l, struct session, link)->number == number)
			return link_entry(l, struct session, link);
	}
	return NULL;
}

struct session *session_get(struct model *m, const char *root, uid_t uid)
{
	struct session *idle = NULL, *unused = NULL, *s;
	struct user *u;

	link_for_each(l, &m->sessions) {
		s = link_entry(l, struct session, link);
		if (s->uid != uid)
			continue;
		if (!strcmp(s->root, root))
			return s;
		if (session_is_idle(s) && (!idle || s->last_run_real < idle->last_run_real))
			idle = s;
		if (session_is_unused(s) && (!unused || s->last_run_real < unused->last_run_real))
			unused = s;
	}
	u = user_get(m, uid);
	if (u->n_sessions >= USER_SESSIONS_MAX && !idle && unused) {
		session_retire_all(unused, "evicted: its user has too many sessions");
		idle = session_is_idle(unused) ? unused : NULL;
	}
	if (u->n_sessions >= USER_SESSIONS_MAX && idle)
		session_free(idle);
	s = u->n_sessions < USER_SESSIONS_MAX ? session_new(m, root, uid) : NULL;
	user_unref(u);
	return s;
}

const struct image_owner session_images = {
	.unheld = instance_image_unheld,
	.gone = instance_image_gone,
	.orphaned = orphan_add,
};

/* Of a run: keys of the instances, since one may go with another. */
struct unneeded {
	const struct run *run;
	struct vector keys;
};

static bool is_unneeded(const struct instance *i, const struct run *run)
{
	return i->run && i->run == run && i->current && !run_needs(run, i->current);
}

static void find_unneeded(struct instance *i, void *arg)
{
	struct unneeded *u = arg;

	if (is_unneeded(i, u->run))
		vector_add(&u->keys, xstrdup(i->key));
}

struct orphan *session_adopt(struct session *s, const char *pattern, const struct run *run)
{
	struct unneeded u = { .run = run };

	session_each(s, find_unneeded, &u);
	for (size_t k = 0; k < u.keys.n; k++) {
		_cleanup_free_ char *key = u.keys.all[k];
		struct instance *i = session_by_key(s, key);

		if (i && is_unneeded(i, run)) {
			instance_retire(i, "nobody in its run could use it any more");
			instance_propagate(i);
		}
	}
	vector_deinit(&u.keys);
	return orphan_take(s, pattern);
}

static void clear_failure(struct instance *i, void *arg)
{
	(void)arg;
	if (i->fixture->source == SOURCE_CLIENT)
		instance_clear_failure(i);
}

static void run_begins(struct session *s)
{
	model_changed(s->model);
	s->total_runs++;
	s->last_run_real = model_real(s->model);
	/* What failed for one run may be tried again by the next. */
	session_each(s, clear_failure, NULL);
}

static void run_ended(struct session *s, struct run *r)
{
	_cleanup_vector_ struct vector list = { 0 };

	/* The ini file's are in the session of its root. */
	link_for_each(l, &s->model->sessions)
		session_each(link_entry(l, struct session, link), session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];

		if (i->run == r)
			session_remove_instance(i->session, i);
	}
	model_changed(s->model);
	link_insert(&s->past, &r->link);
	if (++s->n_past > RUNS_PAST_MAX) {
		run_free(link_entry(s->past.next, struct run, link));
		s->n_past--;
	}
}
