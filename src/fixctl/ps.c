/* SPDX-License-Identifier: MIT */
/*
 * fixctl ps: a line for each instance, what needs a look first: name, state, and its figures, or why it has none. On a terminal a line is
 * no wider than that.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/history.h"
#include "fixctl/instance.h"
#include "fixctl/screen.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "wire/wire.h"

#define GAP 2
/* At least so much of a name is shown. */
#define NAME_MIN 12

enum column { NAME, STATE, AGE, SIZE, BUILD, REUSED, HELD, COLUMNS };

static const struct {
	const char *title;
	bool right;
} columns[COLUMNS] = {
	[NAME] = { "FIXTURE", false }, [STATE] = { "STATE", false },  [AGE] = { "AGE", true },	 [SIZE] = { "SIZE", true },
	[BUILD] = { "BUILD", true },   [REUSED] = { "REUSED", true }, [HELD] = { "HELD", true },
};

struct row {
	const json_t *instance;
	char *cells[COLUMNS];
	bool image; /* otherwise it has no figures */
	char *why;
	size_t rank;
};

struct table {
	struct row *rows;
	size_t n;
	size_t widths[COLUMNS];
};

/* Nobody misses it: there is none, and the next one is built when somebody asks. */
static bool is_given_up(const json_t *i)
{
	const char *state = ctl_string(i, "state");

	if (*ctl_string(i, "error") || *ctl_string(i, "teardown_error") || ctl_int(i, "leases"))
		return false;
	return !strcmp(state, "absent") || (!strcmp(state, "stale") && !strcmp(ctl_string(i, "stale_cause"), "cleaned up"));
}

static size_t ps_rank_of(const json_t *i)
{
	static const char *const first[] = { "building", "checking", "failed", "stale" };
	const char *state = ctl_string(i, "state");
	size_t rank = 0;

	/* What it is built from could not be had. */
	if (!strcmp(state, "absent") && *ctl_string(i, "error"))
		state = "failed";
	while (rank < ELEMENTSOF(first) && strcmp(first[rank], state) != 0)
		rank++;
	if (is_given_up(i))
		return ELEMENTSOF(first) + 2;
	if (rank == ELEMENTSOF(first) && !ctl_int(i, "leases") && !ctl_int(json_object_get(i, "clones"), "held"))
		rank++;
	return rank;
}

static int by_rank(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? -1 : 1;
	return strcmp(x->cells[NAME], y->cells[NAME]);
}

static char *held_of(const json_t *i)
{
	long long held = ctl_int(i, "leases");

	return held ? xasprintf("%lld", held) : xstrdup("-");
}

static char *seconds_of(const json_t *i, const char *key)
{
	char buf[32];

	return xstrdup(format_duration(buf, sizeof buf, (int64_t)(ctl_real(i, key) * NSEC_PER_SEC)));
}

static char *age_of(const json_t *i)
{
	char buf[32];

	return xstrdup(ctl_span(buf, sizeof buf, ctl_real(i, "age_s")));
}

static char *ps_size_of(const json_t *i)
{
	char buf[32];

	return xstrdup(format_size(buf, sizeof buf, (uint64_t)ctl_int(i, "size")));
}

/* They have figures each. */
static char *clones_of(const json_t *clones)
{
	return xasprintf("clones: %lld held, %lld ready, at most %lld", (long long)ctl_int(clones, "held"),
			 (long long)ctl_int(clones, "ready"), (long long)ctl_int(clones, "max"));
}

static char *why_of(const json_t *i)
{
	const char *teardown = ctl_string(i, "teardown_error");
	const json_t *clones = json_object_get(i, "clones");

	if (*ctl_string(i, "outlook"))
		return xstrdup(ctl_string(i, "outlook"));
	if (!instance_is_active(i))
		return instance_why(i);
	if (*teardown)
		return xasprintf("Teardown failed: %s", teardown);
	return clones ? clones_of(clones) : xstrdup("");
}

static void add_figures(struct row *r, const json_t *i)
{
	r->cells[AGE] = age_of(i);
	r->cells[SIZE] = ps_size_of(i);
	r->cells[BUILD] = seconds_of(i, "build_s");
	r->cells[REUSED] = xasprintf("%lld", (long long)ctl_int(i, "reused"));
	r->cells[HELD] = held_of(i);
}

static void add_row(struct table *t, const json_t *i)
{
	struct row *r;
	_cleanup_free_ char *title = instance_title(i);

	t->rows = xrealloc(t->rows, (t->n + 1) * sizeof *t->rows);
	r = &t->rows[t->n++];
	*r = (struct row){ .instance = i, .rank = ps_rank_of(i) };
	r->cells[NAME] = terminal_fit(title, 0);
	r->cells[STATE] = xstrdup(ctl_string(i, "state"));
	r->image = json_is_integer(json_object_get(i, "size"));
	r->why = why_of(i);
	if (r->image)
		add_figures(r, i);
}

/* Without `all`: what there is, or should be, and clones as one. */
static void add_session(struct table *t, const json_t *session, bool all)
{
	const json_t *instances = json_object_get(session, "instances");

	for (size_t k = 0; k < json_array_size(instances); k++) {
		const json_t *i = json_array_get(instances, k);

		if (all || (!instance_is_clone(i) && !is_given_up(i)))
			add_row(t, i);
	}
}

static void ps_measure(struct table *t)
{
	for (size_t c = 0; c < COLUMNS; c++)
		t->widths[c] = strlen(columns[c].title);
	for (size_t k = 0; k < t->n; k++) {
		for (size_t c = 0; c < COLUMNS && t->rows[k].cells[c]; c++) {
			size_t n = terminal_columns(t->rows[k].cells[c]);

			if (n > t->widths[c])
				t->widths[c] = n;
		}
	}
}

/* Names give way to figures. */
static void shrink(struct table *t, size_t width)
{
	size_t others = 0;

	for (size_t c = NAME + 1; c < COLUMNS; c++)
		others += t->widths[c] + GAP;
	if (t->widths[NAME] + others > width)
		t->widths[NAME] = width > others + NAME_MIN ? width - others : NAME_MIN;
}

/* Nothing is filled up behind the last one: *fill is for whatever comes next. */
static void print_cell(const struct table *t, enum column c, const char *s, const char *color, int *fill)
{
	_cleanup_free_ char *cut = c == NAME ? terminal_fit_name(s, t->widths[c]) : terminal_fit(s, t->widths[c]);
	int pad = (int)(t->widths[c] - terminal_columns(cut));

	printf("%*s%s%s%s", *fill + (columns[c].right ? pad : 0), "", color, cut, *color ? PLAIN : "");
	*fill = GAP + (columns[c].right ? 0 : pad);
}

static void print_row(const struct table *t, const struct row *r, size_t width)
{
	size_t taken = 0;
	int fill = 0;
	_cleanup_free_ char *why = NULL;

	for (size_t c = 0; c < COLUMNS && r->cells[c]; c++) {
		print_cell(t, c, r->cells[c], c == STATE ? instance_color(r->cells[c]) : "", &fill);
		taken += t->widths[c] + GAP;
	}
	why = terminal_fit(r->why, !width ? 0 : width > taken ? width - taken : 1);
	printf("%*s%s\n", *why ? fill : 0, "", why);
}

static void ps_print_table(struct table *t, size_t width)
{
	int fill = 0;

	ps_measure(t);
	if (width)
		shrink(t, width);
	for (size_t c = 0; c < COLUMNS; c++)
		print_cell(t, c, columns[c].title, BOLD, &fill);
	putchar('\n');
	for (size_t k = 0; k < t->n; k++)
		print_row(t, &t->rows[k], width);
}

static void table_free(struct table *t)
{
	for (size_t k = 0; k < t->n; k++) {
		for (size_t c = 0; c < COLUMNS; c++)
			free(t->rows[k].cells[c]);
		free(t->rows[k].why);
	}
	free(t->rows);
}

static void ps_print_json(const struct table *t)
{
	json_t *list = json_array();

	for (size_t k = 0; k < t->n; k++)
		json_array_append(list, (json_t *)t->rows[k].instance);
	ctl_print_json(list);
	json_decref(list);
}

struct view {
	struct fixd *f;
	const char *pattern;
	bool all, json;
	struct history history;
};

static int ps_show(void *arg)
{
	struct view *v = arg;
	struct table t = { 0 };
	const json_t *sessions;
	json_t *report = NULL;
	int code = ctl_query(v->f, WIRE_TYPE_status, v->pattern, &report);

	if (code == 0 && !v->json)
		code = history_annotate(&v->history, v->f, report);
	sessions = json_object_get(report, "sessions");
	for (size_t k = 0; k < json_array_size(sessions); k++)
		add_session(&t, json_array_get(sessions, k), v->all);
	if (t.n)
		qsort(t.rows, t.n, sizeof *t.rows, by_rank);
	if (code == 0 && v->json)
		ps_print_json(&t);
	else if (code == 0)
		ps_print_table(&t, terminal_width());
	table_free(&t);
	json_decref(report);
	return code;
}

static int ps_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "all", no_argument, NULL, 'a' },
		{ "json", no_argument, NULL, 'j' },
		{ "watch", no_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	struct view v = { .pattern = "" };
	bool repeat = false;
	int c, code;

	while ((c = getopt_long(argc, argv, "ajw", options, NULL)) >= 0) {
		if (c == 'a')
			v.all = true;
		else if (c == 'w')
			repeat = true;
		else if (c == 'j')
			ctl->json = true;
		else
			ctl_bad_option("ps");
	}
	ctl_expect("ps", argc, argv, 0, 1, NULL);
	if (optind < argc)
		v.pattern = argv[optind];
	v.json = ctl->json;
	v.f = ctl_open_to_show(ctl);
	code = repeat ? screen_watch(ps_show, &v) : ps_show(&v);
	history_deinit(&v.history);
	fixd_close(v.f);
	return code || optind == argc ? code : ctl_known(ctl, argv[optind]);
}

const struct fixctl_command command_ps = {
	.name = "ps",
	.json = true,
	.run = ps_run,
	.summary = "a line for each instance, what needs a look first",
	.help = "ps [--all] [--watch] [--json] [NAME-GLOB]\n"
		"What is being built and when it will be ready, has failed, is stale, is held, and the rest; on a terminal a line is as wide as that.\n"
		"\n"
		"  -a, --all    also each clone, and what has been given up\n"
		"  -w, --watch  again every second, in place, until interrupted\n"
		"  -j, --json   as JSON: the objects that status has under instances",
};
