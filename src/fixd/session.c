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
	s->changes = 1;
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

static char *instance_key(const struct fixture *f, const char *param, const char *scope_key, char *const *env)
{
	struct text t = { 0 };

	text_printf(&t, "%s\x1f%s\x1f%s", f->name, param ? param : "", scope_key);
	for (size_t i = 0; env[i]; i++)
		text_printf(&t, "\x1f%s", env[i]);
	return text_steal(&t);
}

/* What tells one instance from another. -ENOKEY: a variable is missing. */
static int identify(const struct fixture *f, const char *param, const char *node, char *const *env, struct identity *id)
{
	id->env = pick_env(f, env);
	if (!id->env)
		return -ENOKEY;
	id->scope_key = session_scope_key(f->scope, node);
	id->key = instance_key(f, param, id->scope_key, id->env);
	return 0;
}

static void identity_deinit(struct identity *id)
{
	free(id->scope_key);
	free(id->key);
	list_free(id->env);
}

static struct instance *find(struct session *s, const struct identity *id)
{
	struct instance key = { .key = id->key }, **found = tfind(&key, &s->instances, by_key);

	return found ? *found : NULL;
}

struct instance *session_find(struct session *s, const struct fixture *f, const char *param, const char *node, char *const *env)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };

	return identify(f, param, node, env, &id) == 0 ? find(s, &id) : NULL;
}

int session_instance(struct session *s, const struct fixture *f, const char *param, const char *node, char *const *env,
		     struct instance **out)
{
	__attribute__((cleanup(identity_deinit))) struct identity id = { 0 };
	int r = identify(f, param, node, env, &id);

	if (r < 0)
		return r;
	*out = find(s, &id);
	if (*out)
		return 0;
	if (s->n_instances >= SESSION_INSTANCES_MAX)
		return -ENOSPC;
	*out = instance_new(s, f, param, id.scope_key, id.env);
	(*out)->key = id.key;
	id.env = NULL;
	id.key = NULL;
	tsearch(*out, &s->instances, by_key);
	s->n_instances++;
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
	s->changes++;
	instance_free(i);
}

void session_redefine(struct session *s, const struct config *c)
{
	struct collection list = { 0 };
	size_t kept = 0;

	s->changes++;
	session_each(s, collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];
		const struct fixture *f = config_find(c, i->fixture->name);
		bool param_gone = f && (i->param ? !list_has(f->params, i->param) : f->params != NULL);

		if (f && !param_gone && instance_redefine(i, f))
			list.all[kept++] = i;
		else
			remove_instance(s, i);
	}
	/* Only now does nothing lead back into the old configuration. */
	for (size_t k = 0; k < kept; k++)
		instance_settle(list.all[k]);
	free(list.all);
}

void session_make_room(struct session *s)
{
	struct collection list = { 0 };

	if (s->n_instances < SESSION_INSTANCES_MAX)
		return;
	for (int n = 0; n < SESSION_INSTANCES_MAX / 16; n++) {
		struct instance *i = session_least_used(s);

		if (!i)
			break;
		instance_retire(i, "evicted: there are too many instances");
	}
	session_each(s, collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		if (instance_idle(list.all[k]))
			remove_instance(s, list.all[k]);
	}
	free(list.all);
}
