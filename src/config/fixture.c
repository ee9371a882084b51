/* SPDX-License-Identifier: MIT */
#include "config/fixture.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/path.h"
#include "config/identity.h"
#include "config/service.h"
#include "config/source.h"
#include "wire/wire.h"

static struct policy policy_dup(const struct policy *p)
{
	struct policy copy = *p;

	copy.watch = list_dup(p->watch);
	copy.check = p->check ? xstrdup(p->check) : NULL;
	return copy;
}

static struct depend parse_depend(const char *s)
{
	const char *bracket = strchr(s, '[');
	size_t n = strlen(s);
	struct depend d = { 0 };

	if (bracket && s[n - 1] == ']') {
		d.name = xstrndup(s, (size_t)(bracket - s));
		d.param = xstrndup(bracket + 1, n - 2 - (size_t)(bracket - s));
	} else {
		d.name = xstrdup(s);
	}
	return d;
}

static void load_depends(struct fixture *f, const struct raw_entry *e)
{
	char **names = list_split(e->value);

	f->depends_line = e->line;
	f->n_depends = list_count(names);
	f->depends = xcalloc(f->n_depends, sizeof *f->depends);
	for (size_t i = 0; i < f->n_depends; i++)
		f->depends[i] = parse_depend(names[i]);
	list_free(names);
}

bool depend_same(const struct depend *a, const struct depend *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->param ? a->param : "", b->param ? b->param : "");
}

/* It depends on its data, whether it says so or not. */
static void add_data(struct fixture *f)
{
	struct depend d = parse_depend(f->data);

	for (f->data_at = 0; f->data_at < f->n_depends; f->data_at++) {
		if (!depend_same(&f->depends[f->data_at], &d))
			continue;
		free(d.name);
		free(d.param);
		return;
	}
	f->depends = xrealloc(f->depends, (f->n_depends + 1) * sizeof d);
	f->depends[f->n_depends++] = d;
}

static int by_key(const void *a, const void *b)
{
	const struct raw_entry *const *x = a, *const *y = b;

	return strcmp((*x)->key, (*y)->key);
}

struct digest fixture_digest(const char *root, const struct raw_entry **entries, size_t n)
{
	_cleanup_text_ struct text t = { 0 };

	text_printf(&t, "%s%c", root, '\n');
	qsort(entries, n, sizeof *entries, by_key);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(entries[i]->key, "doc") && strcmp(entries[i]->key, "category"))
			text_printf(&t, "%s=%s%c", entries[i]->key, entries[i]->value, '\n');
	}
	text_add(&t, "", 0);
	return digest_bytes(t.data, t.size);
}

static bool valid_name(const char *name)
{
	return *name && strlen(name) <= 100 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(name);
}

/* Where `fixctl run` shows it. */
static void check_path(struct loading *l, struct fixture *f)
{
	char normal[PATH_MAX];

	if (!path_normalize("/", f->path, normal, sizeof normal) || !strcmp(normal, "/")) {
		problem(l, raw_line(&l->raw, f->line, "path"), "path = %s: expected the path of one file or directory", f->path);
		return;
	}
	free(f->path);
	f->path = xstrdup(normal);
	if (f->source == SOURCE_CLIENT || f->scope != SCOPE_SESSION || (f->params && f->params[0]))
		problem(l, raw_line(&l->raw, f->line, "path"),
			"path is for fixtures of scope session without params that fixd itself builds: which one should be there?");
}

static void check_service(struct loading *l, struct fixture *f)
{
	const char *keys;
	_cleanup_free_ char *wrong = service_complete(f, &keys);

	if (wrong)
		problem(l, raw_line(&l->raw, f->line, keys), "%s", wrong);
}

static bool is_variable(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && !s[n] && !(*s >= '0' && *s <= '9');
}

static int by_text(const void *a, const void *b)
{
	const char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

static void check_params_apart(struct loading *l, const struct fixture *f)
{
	size_t n = list_count(f->params);
	_cleanup_free_ char **sorted = xcalloc(n + 1, sizeof *sorted);

	for (size_t i = 0; i < n; i++)
		sorted[i] = f->params[i];
	if (n)
		qsort(sorted, n, sizeof *sorted, by_text);
	for (size_t i = 1; i < n; i++) {
		if (!strcmp(sorted[i - 1], sorted[i]) && (i < 2 || strcmp(sorted[i - 2], sorted[i]) != 0))
			problem(l, raw_line(&l->raw, f->line, "params"), "params: '%s' is there twice", sorted[i]);
	}
}

static void check_lists(struct loading *l, const struct fixture *f)
{
	check_params_apart(l, f);
	for (size_t i = 0; f->env && f->env[i]; i++) {
		if (!is_variable(f->env[i]))
			problem(l, raw_line(&l->raw, f->line, "env"),
				"env: '%s' is no name of a variable: letters, digits and '_', not a digit first", f->env[i]);
	}
}

/* What is excluded is not watched either: the watcher finds the patterns behind the directory. */
static void check_exclude(struct loading *l, struct fixture *f)
{
	if (f->exclude && f->source != SOURCE_DIRECTORY) {
		problem(l, raw_line(&l->raw, f->line, "exclude"), "exclude is for directory =");
		return;
	}
	for (size_t i = 0; f->exclude && f->exclude[i]; i++) {
		if (f->exclude[i][0] == '/')
			problem(l, raw_line(&l->raw, f->line, "exclude"),
				"exclude: '%s' is absolute; expected names, and paths in the directory", f->exclude[i]);
		list_append(&f->inputs, xasprintf("!%s", f->exclude[i]));
	}
}

static void check_fixture(struct loading *l, struct fixture *f)
{
	const struct identity *id;

	/* What is wrong in the section may be the name of its source. */
	if (f->source == SOURCE_NONE && !l->failed)
		problem(l, f->line, "[fixture %s] has no source; expected one of " SOURCE_NAMES, f->name);
	check_lists(l, f);
	if (f->policy.timeout <= 0)
		problem(l, raw_line(&l->raw, f->line, "timeout"), "timeout: expected a duration above 0");
	for (size_t i = 0; f->params && f->params[i]; i++) {
		if (strpbrk(f->params[i], "[]") || strlen(f->name) + strlen(f->params[i]) + 2 > WIRE_NAME_MAX)
			problem(l, raw_line(&l->raw, f->line, "params"), "params: '%s' is too long or has a bracket", f->params[i]);
	}
	if (f->source != SOURCE_CLIENT && (f->version || !f->reuse))
		problem(l, raw_line(&l->raw, f->line, "version reuse"), "version and reuse are for client = yes");
	/* What the inputs were when a client read them is not known here; and what is the default for all others is not for it. */
	if (f->source == SOURCE_CLIENT)
		f->policy.watch_by = WATCH_BY_MTIME;
	if (f->source == SOURCE_CLIENT && l->config->policy.rebuild == REBUILD_EAGER)
		f->policy.rebuild = REBUILD_LAZY;
	if (f->source == SOURCE_CLIENT && (f->n_depends || f->warm || f->user || f->policy.rebuild == REBUILD_EAGER))
		problem(l, raw_line(&l->raw, f->line, "depends warm user rebuild"),
			"depends, warm, user and rebuild = eager are not for client = yes: fixd does not build it");
	if (f->source == SOURCE_CLIENT && (f->teardown || f->reset || f->exclusive))
		problem(l, raw_line(&l->raw, f->line, "teardown reset exclusive"),
			"teardown, reset and exclusive are not for client = yes: who builds it tears it down");
	check_service(l, f);
	f->as_is = f->path != NULL;
	if (f->path)
		check_path(l, f);
	if (f->source != SOURCE_PLUGIN && f->malloc_from)
		problem(l, raw_line(&l->raw, f->line, "malloc"), "malloc = arena is for plugins");
	if (f->source != SOURCE_PLUGIN && f->verify)
		problem(l, raw_line(&l->raw, f->line, "verify"), "verify is for plugins: it is one of their functions");
	if (f->source != SOURCE_PLUGIN && !f->relocate)
		problem(l, raw_line(&l->raw, f->line, "relocate"), "relocate is for plugins: nothing else has addresses in it");
	check_exclude(l, f);
	id = f->user ? identity_learn(f->user) : NULL;
	if (f->user && !id)
		problem(l, raw_line(&l->raw, f->line, "user"), "user = %s: there is no such user, or it is in more than %d groups", f->user,
			IDENTITY_GROUPS_MAX);
	else if (f->user && geteuid() != 0 && id->uid != geteuid())
		problem(l, raw_line(&l->raw, f->line, "user"), "user = %s: only a daemon of root can build as another user", f->user);
}

struct fixture *fixture_new(const char *name, int line, const struct policy *defaults)
{
	struct fixture *f = xcalloc(1, sizeof *f);

	f->name = xstrdup(name);
	f->line = line;
	f->reuse = f->relocate = 1;
	f->policy = policy_dup(defaults);
	f->inputs = xcalloc(1, sizeof *f->inputs);
	return f;
}

void fixture_load(struct loading *l, size_t section, const char *name)
{
	struct config *c = l->config;
	struct fixture *f = fixture_new(name, l->raw.sections[section].line, &c->policy);
	size_t first = l->raw.sections[section].first,
	       last = section + 1 < l->raw.n_sections ? l->raw.sections[section + 1].first : l->raw.n_entries;
	const struct raw_entry **mine = xcalloc(last - first, sizeof *mine);
	size_t n = 0;
	bool failed = l->failed;

	l->failed = false;
	if (!valid_name(name))
		problem(l, f->line, "[fixture %s]: a name has 1 to 100 letters, digits, '_', '.' or '-'", name);
	for (size_t i = first; i < last; i++) {
		const struct raw_entry *e = &l->raw.entries[i];

		mine[n++] = e;
		if (source_of(e->key))
			source_load(l, f, e);
		else if (!strcmp(e->key, "depends"))
			load_depends(f, e);
		else
			loading_apply(l, e, KEY_FIXTURE, f, &f->policy);
	}
	f->section = fixture_digest(c->root, mine, n);
	free(mine);
	if (f->data)
		add_data(f);
	check_fixture(l, f);
	l->failed |= failed;
	c->fixtures = xrealloc(c->fixtures, (c->n_fixtures + 1) * sizeof *c->fixtures);
	c->fixtures[c->n_fixtures++] = f;
}

struct fixture *fixture_free(struct fixture *f)
{
	if (!f)
		return NULL;
	for (size_t i = 0; i < f->n_depends; i++) {
		free(f->depends[i].name);
		free(f->depends[i].param);
	}
	free(f->depends);
	key_free_fields(KEY_FIXTURE, f);
	key_free_fields(KEY_POLICY, &f->policy);
	list_free(f->inputs);
	list_free(f->all_env);
	list_free(f->registered_as);
	free(f->symbol);
	free(f->ready_what);
	free(f->what);
	free(f->name);
	free(f);
	return NULL;
}

char *config_describe(const struct fixture *f)
{
	struct text t = { 0 };

	for (size_t i = 0; i < key_count; i++) {
		const struct key *k = &key_table[i];
		_cleanup_text_ struct text value = { 0 };

		if (!(k->sections & KEY_FIXTURE) || !strcmp(k->name, "doc") || !strcmp(k->name, "scope") || !strcmp(k->name, "params"))
			continue;
		key_print(k, (k->sections & KEY_POLICY) ? (const void *)&f->policy : f, &value);
		if (value.size)
			text_printf(&t, "%s = %s\n", k->name, value.data);
	}
	return text_steal(&t);
}
