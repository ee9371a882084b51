/* SPDX-License-Identifier: MIT */
#include "config/graph.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "config/fixture.h"
#include "config/raw.h"

enum mark { UNSEEN, ON_PATH, DONE };

struct walk {
	struct config *config;
	struct text *problems;
	enum mark *marks;
	bool failed;
};

static size_t graph_index_of(const struct config *c, const struct fixture *f)
{
	size_t low = 0, high = c->n_fixtures;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (strcmp(f->name, c->fixtures[mid]->name) <= 0)
			high = mid;
		else
			low = mid + 1;
	}
	/* One that is there twice is an error that was told. */
	while (c->fixtures[low] != f)
		low++;
	return low;
}

/* Of its depends; what data = names is one, too. */
static int line_of(const struct fixture *f)
{
	return f->depends_line ? f->depends_line : f->line;
}

static void no_such_param(const struct walk *w, const struct fixture *f, const struct depend *d)
{
	_cleanup_text_ struct text all = { 0 };

	for (size_t k = 0; d->fixture->params[k]; k++)
		text_printf(&all, "%s%s", k ? ", " : "", d->fixture->params[k]);
	config_problem(w->problems, w->config->file, line_of(f),
		       "[fixture %s] depends on '%s[%s]', and '%s' has no param '%s'; its params are %s", f->name, d->name, d->param,
		       d->name, d->param, all.data);
}

static void link_one(struct walk *w, const struct fixture *f, struct depend *d)
{
	const struct config *c = w->config;
	const struct fixture *to = config_find(c, d->name);
	_cleanup_free_ char *question = to ? NULL : config_question(c, d->name);
	const char *wrong = NULL;

	d->fixture = to;
	if (!to)
		config_problem(w->problems, c->file, line_of(f), "[fixture %s] depends on '%s', which is not defined%s", f->name, d->name,
			       question);
	else if (to->source == SOURCE_CLIENT)
		wrong = "is built by clients: fixd cannot build from it";
	else if (to->exclusive)
		wrong = "is exclusive: let what depends on it be exclusive instead";
	else if (to->scope > f->scope)
		config_problem(w->problems, c->file, line_of(f),
			       "[fixture %s] has scope %s and depends on '%s' with the narrower scope %s; expected the same "
			       "scope or a wider one",
			       f->name, scope_name(f->scope), d->name, scope_name(to->scope));
	else if (to->params && !d->param)
		wrong = "has params; write one of them, as NAME[PARAM]";
	else if (to->params && !list_has(to->params, d->param))
		no_such_param(w, f, d);
	else if (!to->params && d->param)
		wrong = "has no params";
	else
		return;
	if (wrong)
		config_problem(w->problems, c->file, line_of(f), "[fixture %s] depends on '%s', which %s", f->name, d->name, wrong);
	w->failed = true;
}

/* As the builder sees it: in FIXD_DEP_NAME there are letters, digits and '_' only. */
static char *variable_of(const struct depend *d)
{
	char *name = d->param ? xasprintf("FIXD_DEP_%s_%s", d->name, d->param) : xasprintf("FIXD_DEP_%s", d->name);

	for (char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p))
			*p = '_';
	}
	return name;
}

static char *title_of(const struct depend *d)
{
	return d->param ? xasprintf("%s[%s]", d->name, d->param) : xstrdup(d->name);
}

static void check_pair(struct walk *w, const struct fixture *f, const struct depend *a, const struct depend *b)
{
	_cleanup_free_ char *of_a = variable_of(a), *of_b = variable_of(b), *first = title_of(a), *second = title_of(b);

	if (strcmp(of_a, of_b) != 0)
		return;
	w->failed = true;
	if (depend_same(a, b))
		config_problem(w->problems, w->config->file, line_of(f), "[fixture %s] depends on '%s' twice", f->name, b->name);
	else
		config_problem(w->problems, w->config->file, line_of(f), "[fixture %s] depends on '%s' and '%s', which would both be $%s",
			       f->name, first, second, of_a);
}

static void check_twice(struct walk *w, const struct fixture *f)
{
	for (size_t k = 1; k < f->n_depends; k++) {
		for (size_t m = 0; m < k; m++)
			check_pair(w, f, &f->depends[m], &f->depends[k]);
	}
}

static void add_env(struct fixture *f, char *const *names)
{
	size_t n = list_count(f->all_env);

	f->all_env = xrealloc(f->all_env, (n + list_count(names) + 1) * sizeof *f->all_env);
	f->all_env[n] = NULL;
	for (size_t k = 0; names && names[k]; k++) {
		if (list_has(f->all_env, names[k]))
			continue;
		f->all_env[n++] = xstrdup(names[k]);
		f->all_env[n] = NULL;
	}
}

/* After its dependencies; there must be no cycle. */
static void collect_env(struct fixture *f)
{
	add_env(f, f->env);
	for (size_t k = 0; k < f->n_depends; k++) {
		if (f->depends[k].fixture)
			add_env(f, f->depends[k].fixture->all_env);
	}
}

/* What is made with the help of one holder's clone is for that holder. */
static void inherit_clones(struct walk *w, struct fixture *f)
{
	const char *from = NULL;

	for (size_t k = 0; k < f->n_depends; k++) {
		const struct fixture *to = f->depends[k].fixture;

		if (!to || !to->clones || (f->clones && f->clones <= to->clones))
			continue;
		f->clones = to->clones;
		from = to->name;
	}
	if (!from || (!f->exclusive && !f->reset))
		return;
	config_problem(w->problems, w->config->file, line_of(f),
		       "[fixture %s] depends on '%s', of which each holder has a clone of its own: "
		       "exclusive and reset are not for it",
		       f->name, from);
	w->failed = true;
}

static void visit(struct walk *w, const struct fixture *f)
{
	size_t i = graph_index_of(w->config, f);

	if (w->marks[i] == DONE)
		return;
	w->marks[i] = ON_PATH;
	for (size_t k = 0; k < f->n_depends; k++) {
		const struct fixture *to = f->depends[k].fixture;

		if (!to)
			continue;
		if (w->marks[graph_index_of(w->config, to)] == ON_PATH) {
			config_problem(w->problems, w->config->file, line_of(f),
				       "[fixture %s] depends on '%s': that is a cycle; a fixture cannot depend on itself, "
				       "directly or through others",
				       f->name, to->name);
			w->failed = true;
			continue;
		}
		visit(w, to);
	}
	w->marks[i] = DONE;
	inherit_clones(w, w->config->fixtures[i]);
	if (!w->failed)
		collect_env(w->config->fixtures[i]);
}

/* What is written to keeps the modes of its files, and is another tree than one that is only read. */
static void link_data(struct walk *w, const struct fixture *f)
{
	const struct fixture *data = f->depends[f->data_at].fixture;
	struct fixture *to;

	if (!data)
		return;
	if (data->source != SOURCE_TREE && data->source != SOURCE_DIRECTORY) {
		config_problem(w->problems, w->config->file, f->line,
			       "[fixture %s] data = %s: expected a fixture with tree or directory, "
			       "and it has %s",
			       f->name, f->data, source_name(data->source));
		w->failed = true;
		return;
	}
	to = w->config->fixtures[graph_index_of(w->config, data)];
	if (!to->as_is)
		to->section = digest_bytes(&to->section, sizeof to->section);
	to->as_is = true;
}

int graph_check(struct config *c, struct text *problems)
{
	struct walk w = { .config = c, .problems = problems, .marks = xcalloc(c->n_fixtures, sizeof *w.marks) };

	for (size_t i = 0; i < c->n_fixtures; i++) {
		check_twice(&w, c->fixtures[i]);
		for (size_t k = 0; k < c->fixtures[i]->n_depends; k++)
			link_one(&w, c->fixtures[i], &c->fixtures[i]->depends[k]);
		if (c->fixtures[i]->data)
			link_data(&w, c->fixtures[i]);
	}
	for (size_t i = 0; i < c->n_fixtures; i++)
		visit(&w, c->fixtures[i]);
	free(w.marks);
	return w.failed ? -EINVAL : 0;
}
