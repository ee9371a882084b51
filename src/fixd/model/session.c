/* SPDX-License-Identifier: MIT */
#include "fixd/model/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/orphan.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/run.h"
#include "fixd/model/user.h"
#include "image/digest.h"

static int by_key(const void *key, const void *instance)
{
	return strcmp(key, ((const struct instance *)instance)->key);
}

static void run_begins(struct session *s);
static void run_ended(struct session *s, struct run *r);

static const struct session_calls calls = {
	.instance = session_instance,
	.run_begins = run_begins,
	.run_ended = run_ended,
};

/* 0, or -errno: also that its user may not look. */
static int session_look_at_root(const struct session *s)
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
	s->created_real = clock_real();
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

static bool session_is_full(const struct session *s)
{
	return s->instances.n >= SESSION_INSTANCES_MAX || user_is_full(s->user);
}

static void note_busy(struct instance *i, void *arg)
{
	bool *busy = arg;

	*busy |= !instance_idle(i);
}

/* Nobody would miss it, but for its history. */
static bool is_idle(struct session *s)
{
	bool busy = s == s->model->session || s->n_conns || !link_empty(&s->runs) || s->n_orphans ||
		    !link_empty(&s->images);

	if (!busy)
		session_each(s, note_busy, &busy);
	return !busy;
}

static void session_collect(struct instance *i, void *arg)
{
	vector_add(arg, i);
}

static void session_retire_all(struct session *s, const char *cause)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		instance_retire(list.all[k], cause);
		instance_propagate(list.all[k]);
	}
}

static void note_used(struct instance *i, void *arg)
{
	const struct image *im = i->current;
	bool *used = arg, left_behind = im && im->note_fd >= 0 && !im->torn_down;

	*used |= (i->last && i->last != im) || i->build || i->offer || !link_empty(&i->waiters) || i->state == INSTANCE_WAITING || (im && (im->n_uses || im->n_pins)) || left_behind;
}

/* Nobody is there, and what it has was only kept for later. */
static bool session_is_unused(struct session *s)
{
	bool used = s == s->model->session || s->n_conns || !link_empty(&s->runs) || s->n_orphans;

	if (!used)
		session_each(s, note_used, &used);
	return !used;
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
		if (is_idle(s) && (!idle || s->last_run_real < idle->last_run_real))
			idle = s;
		if (session_is_unused(s) && (!unused || s->last_run_real < unused->last_run_real))
			unused = s;
	}
	u = user_get(m, uid);
	if (u->n_sessions >= USER_SESSIONS_MAX && !idle && unused) {
		session_retire_all(unused, "evicted: its user has too many sessions");
		idle = is_idle(unused) ? unused : NULL;
	}
	if (u->n_sessions >= USER_SESSIONS_MAX && idle)
		session_free(idle);
	s = u->n_sessions < USER_SESSIONS_MAX ? session_new(m, root, uid) : NULL;
	user_unref(u);
	return s;
}

char *session_scope_key(int scope, const char *node)
{
	const char *file_end = strstr(node, "::"), *slash;
	size_t file = file_end ? (size_t)(file_end - node) : strlen(node), n = strlen(node);

	switch (scope) {
	case SCOPE_SESSION:
		return xstrdup("");
	case SCOPE_PACKAGE:
		slash = memrchr(node, '/', file);
		return xstrndup(node, slash ? (size_t)(slash - node) : 0);
	case SCOPE_MODULE:
		return xstrndup(node, file);
	case SCOPE_CLASS:
		/* Of file::Class::test the last part is the test. */
		for (const char *p = file_end; p; p = strstr(p + 2, "::"))
			n = (size_t)(p - node);
		return xstrndup(node, n);
	case SCOPE_DEFINITION:
		/* A parameter's id may have any characters; the name of a function has no bracket. */
		for (const char *p = file_end; p; p = strstr(p + 2, "::")) {
			n = (size_t)(p - node) + strcspn(p, "[");
			if (node[n] == '[')
				break;
		}
		return xstrndup(node, n);
	default:
		return xstrdup(node);
	}
}

static const char *env_value(char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; env && env[i]; i++) {
		if (!strncmp(env[i], name, n) && (env[i][n] == '=' || env[i][n] == '\0'))
			return env[i];
	}
	return NULL;
}

/* The asker's values of the variables that a fixture and its dependencies name. NULL: one is missing. */
static char **pick_env(const struct fixture *f, char *const *env)
{
	size_t n = list_count(f->all_env);
	char **picked = xcalloc(n + 1, sizeof *picked);

	for (size_t i = 0; i < n; i++) {
		const char *v = env_value(env, f->all_env[i]);

		if (!v) {
			list_free(picked);
			return NULL;
		}
		picked[i] = xstrdup(v);
	}
	return picked;
}

struct identity {
	char *scope_key;
	char **env;
	char *key;
};

static char *instance_key(const struct fixture *f, const struct place *p, const char *scope_key, char *const *env)
{
	struct text t = { 0 };

	/* A client may register a name that the ini file has, too. */
	text_printf(&t, "%s%s\x1f%s\x1f%s\x1f%s", f->registered ? "\x1e" : "", f->name, p->param ? p->param : "", scope_key,
		    f->reuse ? "" : p->run->id);
	for (size_t i = 0; env[i]; i++)
		text_printf(&t, "\x1f%s", env[i]);
	return text_steal(&t);
}

/* What tells one instance from another. */
static int identify(const struct fixture *f, const struct place *p, struct identity *id)
{
	if (!f->reuse && !p->run)
		return -ENOTCONN;
	id->env = pick_env(f, p->env);
	if (!id->env)
		return -ENOKEY;
	id->scope_key = session_scope_key(f->scope, p->node);
	id->key = instance_key(f, p, id->scope_key, id->env);
	return 0;
}

static void identity_deinit(struct identity *id)
{
	free(id->scope_key);
	free(id->key);
	list_free(id->env);
}

struct instance *session_by_key(const struct session *s, const char *key)
{
	bool found;
	size_t at = vector_search(&s->instances, key, by_key, &found);

	return found ? s->instances.all[at] : NULL;
}

static struct instance *find(const struct session *s, const struct identity *id)
{
	return session_by_key(s, id->key);
}

struct instance *session_find(struct session *s, const struct fixture *f, const struct place *p)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };

	return identify(f, p, &id) == 0 ? find(s, &id) : NULL;
}

static struct instance *session_find_dependency(const struct instance *i, size_t k)
{
	const struct depend *d = &i->fixture->depends[k];

	return session_find(i->session, d->fixture, &(struct place){ d->param, i->scope_key, i->env, i->run });
}

/* It is new: the edges that have waited for it lead to it. */
static void tie_edges(struct instance *to)
{
	link_for_each_safe(l, &to->session->loose) {
		struct edge *e = link_entry(l, struct edge, in_dependency);
		size_t k = edge_index(e);

		if (e->from->fixture->depends[k].fixture == to->fixture && session_find_dependency(e->from, k) == to)
			edge_set(e->from, k, to);
	}
}

void session_find_dependencies(struct instance *i)
{
	for (size_t k = 0; k < i->fixture->n_depends; k++)
		edge_set(i, k, session_find_dependency(i, k));
}

struct looking {
	const struct fixture *fixture;
	const char *param, *scope_key;
	struct instance *found;
	size_t n;
};

static void look_at(struct instance *i, void *arg)
{
	struct looking *l = arg;

	if (!i->current || i->fixture != l->fixture || strcmp(i->param ? i->param : "", l->param ? l->param : "") != 0 ||
	    strcmp(i->scope_key, l->scope_key) != 0)
		return;
	l->found = i;
	l->n++;
}

struct instance *session_peek(struct session *s, const struct fixture *f, const struct place *p)
{
	_cleanup_free_ char *scope_key = session_scope_key(f->scope, p->node);
	struct instance *exactly = session_find(s, f, p);
	struct looking l = { .fixture = f, .param = p->param, .scope_key = scope_key };

	if (exactly && (exactly->current || exactly->offer))
		return exactly;
	session_each(s, look_at, &l);
	return l.n == 1 ? l.found : exactly;
}

/* An image of a fixture that was removed from the ini file and is there again: it is still held, or being torn down. */
static struct image *left_behind(const struct model *m, const char *title)
{
	link_for_each(l, &m->detached) {
		struct image *im = link_entry(l, struct image, in_detached);

		if (!im->user && im->title && !strcmp(im->title, title))
			return im;
	}
	return NULL;
}

static struct instance *session_add_instance(struct session *s, const struct fixture *f, const struct place *p, struct identity *id)
{
	struct instance *i = instance_new(s, f, p->param, id->scope_key, id->env);
	bool found;
	size_t at;

	instance_init_timers(i);
	i->run = f->reuse ? NULL : p->run;
	i->key = id->key;
	id->env = NULL;
	id->key = NULL;
	at = vector_search(&s->instances, i->key, by_key, &found);
	vector_insert(&s->instances, at, i);
	tie_edges(i);
	s->user->n_instances++;
	return i;
}

int session_instance(struct session *s, const struct fixture *f, const struct place *p, struct instance **out)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };
	int r = identify(f, p, &id);
	struct image *before;

	if (r < 0)
		return r;
	*out = find(s, &id);
	if (*out)
		return 0;
	if (session_is_full(s))
		return -ENOSPC;
	*out = session_add_instance(s, f, p, &id);
	before = s == s->model->session ? left_behind(s->model, (*out)->title) : NULL;
	if (before)
		instance_inherit_generation(*out, before);
	return 0;
}

struct instance *session_resume_instance(struct session *s, const struct fixture *f, const char *param, const char *scope_key,
					 char **env, const struct run *run)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };
	struct place p = { param, scope_key, env, run };

	id.env = f->reuse || run ? pick_env(f, env) : NULL;
	list_free(env);
	if (!id.env)
		return NULL;
	id.scope_key = xstrdup(scope_key);
	id.key = instance_key(f, &p, scope_key, id.env);
	return find(s, &id) ? NULL : session_add_instance(s, f, &p, &id);
}

struct instance *session_next(const struct session *s, const char *key)
{
	bool found = false;
	size_t at = key ? vector_search(&s->instances, key, by_key, &found) : 0;

	at += found;
	return at < s->instances.n ? s->instances.all[at] : NULL;
}

void session_each(struct session *s, void (*fn)(struct instance *i, void *arg), void *arg)
{
	for (size_t k = 0; k < s->instances.n; k++)
		fn(s->instances.all[k], arg);
}

static void remove_instance(struct session *s, struct instance *i)
{
	bool found;
	size_t at = vector_search(&s->instances, i->key, by_key, &found);

	vector_remove(&s->instances, at);
	s->user->n_instances--;
	s->changes++;
	instance_free(i);
}

/* `definition` gives the new one; NULL when an instance has no place in it, the old one when it is not concerned. */
static void redefine(struct session *s, const struct fixture *(*definition)(const struct instance *i, const void *arg), const void *arg)
{
	_cleanup_vector_ struct vector list = { 0 };
	size_t kept = 0;

	s->changes++;
	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];
		const struct fixture *f = definition(i, arg);

		if (f == i->fixture)
			continue;
		if (f && instance_redefine(i, f))
			list.all[kept++] = i;
		else
			remove_instance(s, i);
	}
	/* Only now does nothing lead back into the old definitions. */
	for (size_t k = 0; k < s->instances.n; k++)
		session_find_dependencies(s->instances.all[k]);
	for (size_t k = 0; k < kept; k++)
		instance_propagate(list.all[k]);
}

void session_requeue(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];

		if ((i->state != INSTANCE_BUILDING && i->state != INSTANCE_CHECKING) || i->build || i->offer)
			continue;
		instance_unpin(i);
		instance_set_idle(i);
	}
	for (size_t k = 0; k < list.n; k++)
		instance_propagate(list.all[k]);
}

static const struct fixture *from_config(const struct instance *i, const void *arg)
{
	const struct fixture *f;

	if (i->fixture->registered)
		return i->fixture;
	f = config_find(arg, i->fixture->name);
	return f && (i->param ? list_has(f->params, i->param) : !f->params) ? f : NULL;
}

void session_redefine(struct session *s, const struct config *c)
{
	redefine(s, from_config, c);
}

static void remove_idle(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		if (instance_idle(list.all[k]))
			remove_instance(s, list.all[k]);
	}
}

void session_make_room(struct session *s)
{
	/* Those that are only remembered first. */
	if (session_is_full(s))
		remove_idle(s);
	if (!session_is_full(s))
		return;
	/* Many at a time, so that it is seldom done. */
	for (int n = 0; n < SESSION_INSTANCES_MAX / 16; n++) {
		if (!reclaim_of_session(s, "evicted: there are too many instances"))
			break;
	}
	remove_idle(s);
}

static size_t fixture_index(const struct session *s, const char *name, bool *found)
{
	size_t low = 0, high = s->n_fixtures;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, s->fixtures[mid]->name);

		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

const struct fixture *session_fixture(const struct session *s, const char *name)
{
	bool found;
	size_t k = fixture_index(s, name, &found);

	return found ? s->fixtures[k] : NULL;
}

struct replacement {
	const struct fixture *old, *fresh;
};

static const struct fixture *replaced(const struct instance *i, const void *arg)
{
	const struct replacement *r = arg;

	if (i->fixture != r->old)
		return i->fixture;
	return r->old->reuse == r->fresh->reuse ? r->fresh : NULL;
}

int session_define(struct session *s, const char *name, char *const *settings, struct text *problems)
{
	struct fixture *f;
	bool found;
	size_t k = fixture_index(s, name, &found);
	int r;

	if (!found && (s->n_fixtures >= SESSION_FIXTURES_MAX || (s->user->limited && s->user->n_fixtures >= SESSION_FIXTURES_MAX))) {
		text_printf(problems, "%d fixtures are registered already\n", SESSION_FIXTURES_MAX);
		return -ENOSPC;
	}
	model_changed(s->model);
	r = config_define(s->model->config, s->root, name, settings, &f, problems);
	if (r < 0)
		return r;
	if (!found) {
		s->fixtures = xrealloc(s->fixtures, (s->n_fixtures + 1) * sizeof *s->fixtures);
		memmove(s->fixtures + k + 1, s->fixtures + k, (s->n_fixtures - k) * sizeof *s->fixtures);
		s->fixtures[k] = f;
		s->n_fixtures++;
		s->user->n_fixtures++;
	} else if (digest_equal(s->fixtures[k]->settings, f->settings)) {
		fixture_free(f);
	} else {
		struct fixture *old = s->fixtures[k];

		s->fixtures[k] = f;
		redefine(s, replaced, &(struct replacement){ old, f });
		fixture_free(old);
	}
	return 0;
}

const struct image_owner session_images = {
	.unheld = instance_image_unheld,
	.gone = instance_image_gone,
	.orphaned = orphan_add,
};

struct unneeded {
	const struct run *run;
	struct instance *found;
};

static void find_unneeded(struct instance *i, void *arg)
{
	struct unneeded *u = arg;

	if (i->run && i->run == u->run && i->current && !run_needs(u->run, i->current))
		u->found = i;
}

struct orphan *session_adopt(struct session *s, const char *pattern, const struct run *run)
{
	struct unneeded u = { .run = run };

	do {
		u.found = NULL;
		session_each(s, find_unneeded, &u);
		if (u.found) {
			instance_retire(u.found, "nobody in its run could use it any more");
			instance_propagate(u.found);
		}
	} while (u.found);
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
	s->last_run_real = clock_real();
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
			remove_instance(i->session, i);
	}
	model_changed(s->model);
	link_insert(&s->past, &r->link);
	if (++s->n_past > RUNS_PAST_MAX) {
		run_free(link_entry(s->past.next, struct run, link));
		s->n_past--;
	}
}

static void note_image(struct instance *i, void *arg)
{
	bool *any = arg;

	*any |= i->current != NULL;
}

/* An instance that has no image, and is only remembered. */
#define REMEMBERED (24 * 3600 * NSEC_PER_SEC)

bool session_sweep(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };
	int64_t now = clock_now(), last_real = s->last_run_real > s->created_real ? s->last_run_real : s->created_real;
	/* In a daemon with a /tmp or /home of its own none of a client's may ever have been there. */
	int seen = s->root_seen ? session_look_at_root(s) : 0;
	bool any = false, root_gone = seen == -ENOENT || seen == -ENOTDIR;

	/* A branch that was switched away comes back; a directory that was removed does not: both are built anew. */
	if (root_gone) {
		session_each(s, note_image, &any);
		if (any)
			log_info("session %s: %s is gone", s->id, s->root);
		session_retire_all(s, "the root directory of its session is gone");
	}
	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];

		if (instance_idle(i) && now - i->rested > REMEMBERED)
			remove_instance(s, i);
	}
	return !is_idle(s) || (!root_gone && clock_real() - last_real < REMEMBERED);
}
