/* SPDX-License-Identifier: MIT */
/* The instances of a session: each is found by what makes it another one, its key. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/model/supply.h"
#include "fixd/model/user.h"

static int by_key(const void *key, const void *instance)
{
	return strcmp(key, ((const struct instance *)instance)->key);
}

bool session_is_full(const struct session *s)
{
	return s->instances.n >= SESSION_INSTANCES_MAX || user_is_full(s->user);
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

/* In the key of an instance, before the clone. */
#define CLONE 0x1d

static char *instance_key(const struct fixture *f, const struct instance_lookup *p, const char *scope_key, char *const *env)
{
	struct text t = { 0 };

	/* A client may register a name that the ini file has, too. */
	text_printf(&t, "%s%s\x1f%s\x1f%s\x1f", f->registered ? "\x1e" : "", f->name, p->param ? p->param : "", scope_key);
	/* The ini file's are asked for in runs of many sessions, which may have the same name. */
	if (!f->reuse)
		text_printf(&t, "%llu %s", (unsigned long long)p->run->session->number, p->run->id);
	for (size_t i = 0; env[i]; i++)
		text_printf(&t, "\x1f%s", env[i]);
	if (p->clone)
		text_printf(&t, "%c%s", CLONE, p->clone);
	return text_steal(&t);
}

/* What tells one instance from another. */
static int identify(const struct fixture *f, const struct instance_lookup *p, struct identity *id)
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

static struct instance *registry_find(const struct session *s, const struct identity *id)
{
	return session_by_key(s, id->key);
}

struct instance *session_find(struct session *s, const struct fixture *f, const struct instance_lookup *p)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };

	return identify(f, p, &id) == 0 ? registry_find(s, &id) : NULL;
}

static struct instance *session_find_dependency(const struct instance *i, size_t k)
{
	const struct depend *d = &i->fixture->depends[k];

	return session_find(i->session, d->fixture,
			    &(struct instance_lookup){ d->param, i->scope_key, i->env, i->run, edge_clone(i, d->fixture) });
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

struct instance *session_peek(struct session *s, const struct fixture *f, const struct instance_lookup *p)
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

/* What is asked for when this one is given; NULL: nobody asks for it. */
static struct instance *find_front(const struct session *s, const struct instance *clone, const char *key)
{
	_cleanup_free_ char *of = clone->clone && instance_is_own_clone(clone) ? xstrndup(key, (size_t)(strrchr(key, CLONE) - key)) : NULL;
	struct instance *front = of ? session_by_key(s, of) : NULL;

	return front && front->pool ? front : NULL;
}

static struct instance *session_add_instance(struct session *s, const struct fixture *f, const struct instance_lookup *p,
					     struct identity *id)
{
	struct instance *i = instance_new(s, f, p->param, id->scope_key, id->env, p->clone), *front = find_front(s, i, id->key);
	bool found;
	size_t at;

	instance_init_timers(i);
	i->run = f->reuse ? NULL : p->run;
	i->key = id->key;
	id->env = NULL;
	id->key = NULL;
	at = vector_search(&s->instances, i->key, by_key, &found);
	vector_insert(&s->instances, at, i);
	if (front)
		pool_add(front->pool, i);
	else if (f->clones && !p->clone)
		i->pool = supply_new(i);
	tie_edges(i);
	s->user->n_instances++;
	return i;
}

int session_instance(struct session *s, const struct fixture *f, const struct instance_lookup *p, struct instance **out)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };
	int r = identify(f, p, &id);
	struct image *before;

	if (r < 0)
		return r;
	*out = registry_find(s, &id);
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

struct instance *session_resume_instance(struct session *s, const struct fixture *f, const char *param, const char *scope_key, char **env,
					 const struct run *run, const char *clone)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };
	struct instance_lookup p = { param, scope_key, env, run, clone };

	id.env = f->reuse || run ? pick_env(f, env) : NULL;
	list_free(env);
	if (!id.env || (clone && !f->clones))
		return NULL;
	id.scope_key = xstrdup(scope_key);
	id.key = instance_key(f, &p, scope_key, id.env);
	return registry_find(s, &id) ? NULL : session_add_instance(s, f, &p, &id);
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

void session_remove_instance(struct session *s, struct instance *i)
{
	bool found;
	size_t at = vector_search(&s->instances, i->key, by_key, &found);

	vector_remove(&s->instances, at);
	s->user->n_instances--;
	s->changes++;
	instance_free(i);
}
