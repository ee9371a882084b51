/* SPDX-License-Identifier: MIT */
#include "fixd/session.h"

#include <errno.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/instance.h"
#include "image/digest.h"

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct instance *)a)->key, ((const struct instance *)b)->key);
}

struct session *session_new(struct daemon *d, const char *root, uid_t uid)
{
	struct session *s = xcalloc(1, sizeof *s);
	_cleanup_free_ char *identity = xasprintf("%u:%s", (unsigned)uid, root);

	s->daemon = d;
	s->root = xstrdup(root);
	s->uid = uid;
	s->created_real = clock_real();
	snprintf(s->id, sizeof s->id, "sess-%06x", (unsigned)(digest_bytes(identity, strlen(identity)).low & 0xffffff));
	return s;
}

struct session *session_free(struct session *s)
{
	if (!s)
		return NULL;
	while (s->instances) {
		struct instance *i = *(struct instance **)s->instances;

		tdelete(i, &s->instances, by_key);
		instance_free(i);
	}
	free(s->root);
	free(s);
	return NULL;
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

static void collect_env(const struct fixture *f, struct text *out)
{
	for (size_t i = 0; f->env && f->env[i]; i++)
		text_printf(out, "%s\n", f->env[i]);
	for (size_t i = 0; i < f->n_depends; i++)
		collect_env(f->depends[i].fixture, out);
}

char *session_env_names(const struct fixture *f)
{
	struct text t = { 0 };

	collect_env(f, &t);
	return text_steal(&t);
}

/* The asker's values of the variables that a fixture and its dependencies name. NULL: one is missing. */
static char **pick_env(const struct fixture *f, char *const *env)
{
	_cleanup_free_ char *joined = session_env_names(f);
	char **names = list_split(joined);

	for (size_t i = 0; names[i]; i++) {
		const char *v = env_value(env, names[i]);

		if (!v) {
			list_free(names);
			return NULL;
		}
		free(names[i]);
		names[i] = xstrdup(v);
	}
	return names;
}

static char *instance_key(const struct fixture *f, const char *param, const char *scope_key, char *const *env)
{
	struct text t = { 0 };

	text_printf(&t, "%s\x1f%s\x1f%s", f->name, param ? param : "", scope_key);
	for (size_t i = 0; env[i]; i++)
		text_printf(&t, "\x1f%s", env[i]);
	return text_steal(&t);
}

int session_instance(struct session *s, const struct fixture *f, const char *param, const char *node, char *const *env,
		     struct instance **out)
{
	_cleanup_free_ char *scope_key = session_scope_key(f->scope, node);
	char **picked = pick_env(f, env);
	struct instance key = { 0 }, **found, *i;

	if (!picked)
		return -ENOKEY;
	key.key = instance_key(f, param, scope_key, picked);
	found = tfind(&key, &s->instances, by_key);
	if (found) {
		free(key.key);
		list_free(picked);
		*out = *found;
		return 0;
	}
	if (s->n_instances >= SESSION_INSTANCES_MAX)
		session_sweep(s);
	if (s->n_instances >= SESSION_INSTANCES_MAX) {
		free(key.key);
		list_free(picked);
		return -ENOSPC;
	}
	i = instance_new(s, f, param, scope_key, picked);
	i->key = key.key;
	tsearch(i, &s->instances, by_key);
	s->n_instances++;
	*out = i;
	return 0;
}

struct walk {
	void (*fn)(struct instance *i, void *arg);
	void *arg;
};

static void walk_node(const void *node, VISIT visit, void *arg)
{
	struct walk *w = arg;

	if (visit == postorder || visit == leaf)
		w->fn(*(struct instance *const *)node, w->arg);
}

void session_each(struct session *s, void (*fn)(struct instance *i, void *arg), void *arg)
{
	struct walk w = { fn, arg };

	twalk_r(s->instances, walk_node, &w);
}

static void consider(struct instance *i, void *arg)
{
	struct instance **best = arg;

	if (!i->current || i->current->refs > 1 || i->state == INSTANCE_CHECKING)
		return;
	if (!*best || i->current->used < (*best)->current->used)
		*best = i;
}

struct instance *session_least_used(struct session *s)
{
	struct instance *best = NULL;

	session_each(s, consider, &best);
	return best;
}

struct collection {
	struct instance **all;
	size_t n;
};

static void collect(struct instance *i, void *arg)
{
	struct collection *c = arg;

	c->all = xrealloc(c->all, (c->n + 1) * sizeof *c->all);
	c->all[c->n++] = i;
}

static void remove_instance(struct session *s, struct instance *i)
{
	tdelete(i, &s->instances, by_key);
	s->n_instances--;
	instance_free(i);
}

void session_redefine(struct session *s, const struct config *c)
{
	struct collection list = { 0 };

	session_each(s, collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];
		const struct fixture *f = config_find(c, i->fixture->name);
		bool param_gone = f && (i->param ? !list_has(f->params, i->param) : f->params != NULL);

		if (!f || param_gone)
			remove_instance(s, i);
		else
			instance_redefine(i, f);
	}
	free(list.all);
}

void session_sweep(struct session *s)
{
	struct collection list = { 0 };

	session_each(s, collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		if (instance_idle(list.all[k]))
			remove_instance(s, list.all[k]);
	}
	free(list.all);
}
