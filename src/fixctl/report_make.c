/* SPDX-License-Identifier: MIT */
/*
 * The numbers of the report: events are counted per fixture, then ordered and summed. Nothing is printed here; the forms are
 * report_markdown and report_html.
 */
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "fixctl/fixctl.h"
#include "fixctl/instance.h"
#include "fixctl/report.h"
#include "fixctl/samples.h"

#define TOP 5
#define HIGH_IMPACT_USES 3
#define STATUS_MAX 120
#define MB 1e6

/* What is counted of one fixture, all its instances together. */
struct row {
	const char *name, *scope, *type, *category;
	struct samples builds, attaches; /* seconds; of the latter those that did not wait for a build */
	struct samples leases;		 /* that have ended: how long they were, in seconds */
	const json_t *depends;		 /* names */
	bool needed;			 /* used, or something that is used was made from it */
	json_int_t uses, reuses, failures, stale, evictions, teardown_failures;
	json_int_t resets, dirty, pages;
	json_int_t held, most_held; /* leases at once */
	double size;		    /* bytes of the largest image */
	const char *error;	    /* of the newest build, if it failed */
};

struct table {
	struct row *rows;
	json_t *numbers; /* of the rows, by name, until they are sorted */
	size_t n;
	json_t *built, *attached; /* sets of "title generation" */
	json_t *causes;		  /* of staleness: how many */
	json_t *changed;	  /* "test", newline, name of fixture: how much */
	json_t *held;		  /* number of an attach: its event */
	struct samples attaches;
};

/* name, name[param], name[param] @ key and the clones of these are all of one fixture. */
static struct row *find_row(struct table *t, const char *title)
{
	const json_t *number = instance_fixture(t->numbers, title);

	return number ? &t->rows[json_integer_value(number)] : NULL;
}

static void report_make_add_fixture(struct table *t, const json_t *f)
{
	const char *category = ctl_string(f, "category");

	/* The same name in two sessions is one row. */
	if (find_row(t, ctl_string(f, "name")))
		return;
	if (!t->numbers)
		t->numbers = json_object();
	json_object_set_new(t->numbers, ctl_string(f, "name"), json_integer((json_int_t)t->n));
	t->rows = xrealloc(t->rows, (t->n + 1) * sizeof *t->rows);
	t->rows[t->n++] = (struct row){
		.name = ctl_string(f, "name"),
		.scope = ctl_string(f, "scope"),
		.type = ctl_string(f, "source"),
		.category = *category ? category : "-",
		.depends = json_object_get(f, "depends"),
	};
}

/* What is only built into others is no less used. */
static void mark_needed(struct table *t, struct row *r)
{
	if (!r || r->needed)
		return;
	r->needed = true;
	for (size_t k = 0; k < json_array_size(r->depends); k++)
		mark_needed(t, find_row(t, json_string_value(json_array_get(r->depends, k))));
}

static char *image_key(const json_t *e)
{
	return xasprintf("%s %lld", ctl_string(e, "name"), (long long)ctl_int(e, "generation"));
}

static void on_ready(struct table *t, struct row *r, const json_t *e)
{
	_cleanup_free_ char *key = image_key(e);

	samples_add(&r->builds, ctl_real(e, "build_s"));
	if (ctl_real(e, "size") > r->size)
		r->size = ctl_real(e, "size");
	r->error = NULL;
	/* What clients build says so only then. */
	if (json_array_size(r->depends) == 0)
		r->depends = json_object_get(e, "depends");
	json_object_set_new(t->built, key, json_true());
}

static bool is_of_clone(const struct row *r, const json_t *e)
{
	const char *title = ctl_string(e, "name"), *rest = strncmp(title, r->name, strlen(r->name)) == 0 ? title + strlen(r->name) : "";
	const char *end = *rest == '[' ? strchr(rest, ']') : NULL;

	return *rest == '/' || (end && end[1] == '/');
}

/* The first attach of an image that was built for it is no reuse; that of a clone is one if it was there already. */
static bool is_reuse(struct table *t, const struct row *r, const json_t *e, const char *key)
{
	if (is_of_clone(r, e))
		return !json_is_true(json_object_get(e, "built"));
	return json_object_get(t->attached, key) || !json_object_get(t->built, key);
}

static void on_attach(struct table *t, struct row *r, const json_t *e)
{
	_cleanup_free_ char *key = image_key(e), *number = xasprintf("%lld", (long long)ctl_int(e, "number"));

	r->uses++;
	r->reuses += is_reuse(t, r, e, key);
	json_object_set_new(t->attached, key, json_true());
	json_object_set(t->held, number, (json_t *)e);
	r->held++;
	if (r->held > r->most_held)
		r->most_held = r->held;
	if (json_is_true(json_object_get(e, "built")))
		return;
	samples_add(&r->attaches, ctl_real(e, "took_s"));
	samples_add(&t->attaches, ctl_real(e, "took_s"));
}

static void add_change(struct table *t, struct row *r, const char *test, json_int_t resets, json_int_t pages)
{
	_cleanup_free_ char *key = xasprintf("%s\n%s", test, r->name);
	json_t *c = json_object_get(t->changed, key);

	r->dirty += resets;
	r->pages += pages;
	if (!c) {
		c = json_pack("{s:s, s:s, s:s, s:i, s:i}", "test", test, "name", r->name, "scope", r->scope, "dirty_resets", 0,
			      "pages_changed", 0);
		json_object_set_new(t->changed, key, c);
	}
	json_object_set_new(c, "dirty_resets", json_integer(ctl_int(c, "dirty_resets") + resets));
	json_object_set_new(c, "pages_changed", json_integer(ctl_int(c, "pages_changed") + pages));
}

static void on_detach(struct table *t, struct row *r, const json_t *e)
{
	_cleanup_free_ char *number = xasprintf("%lld", (long long)ctl_int(e, "of")), *pid = NULL;
	const json_t *attach = json_object_get(t->held, number);
	const char *test = attach ? ctl_string(attach, "test") : "";

	samples_add(&r->leases, ctl_real(e, "took_s"));
	r->held -= attach != NULL;
	r->resets += ctl_int(e, "resets");
	if (ctl_int(e, "dirty_resets") == 0)
		return;
	if (!*test)
		test = pid = xasprintf("pid %lld", (long long)ctl_int(e, "pid"));
	add_change(t, r, test, ctl_int(e, "dirty_resets"), ctl_int(e, "pages_changed"));
}

static void on_changed(struct table *t, struct row *r, const json_t *e)
{
	r->resets++;
	add_change(t, r, ctl_string(e, "test"), 1, ctl_int(e, "pages_changed"));
}

static void on_stale(struct table *t, struct row *r, const json_t *e)
{
	const char *cause = ctl_string(e, "stale_cause");
	_cleanup_free_ char *line = xstrndup(cause, strcspn(cause, "\n"));

	/* A clone ends with its holder. */
	if (!strcmp(cause, "it was given back"))
		return;
	r->stale++;
	r->evictions += !strncmp(cause, "evicted:", strlen("evicted:"));
	json_object_set_new(t->causes, line, json_integer(ctl_int(t->causes, line) + 1));
}

static void on_failed(struct table *t, struct row *r, const json_t *e)
{
	(void)t;
	r->failures++;
	r->error = ctl_string(e, "error");
}

static void on_torn_down(struct table *t, struct row *r, const json_t *e)
{
	(void)t;
	r->teardown_failures += *ctl_string(e, "error") != '\0';
}

static const struct {
	const char *event;
	void (*count)(struct table *t, struct row *r, const json_t *e);
} counters[] = {
	{ "ready", on_ready },	   { "attach", on_attach }, { "detach", on_detach },	   { "stale", on_stale },
	{ "changed", on_changed }, { "failed", on_failed }, { "torn-down", on_torn_down },
};

static void report_make_count(struct table *t, const json_t *e)
{
	struct row *r = find_row(t, ctl_string(e, "name"));

	for (size_t k = 0; r && k < ELEMENTSOF(counters); k++) {
		if (!strcmp(counters[k].event, ctl_string(e, "event")))
			counters[k].count(t, r, e);
	}
}

static int by_uses(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->uses != y->uses ? (x->uses < y->uses ? 1 : -1) : strcmp(x->name, y->name);
}

static double median(struct row *r)
{
	json_t *m = samples_quantile(&r->builds, 0.5);
	double v = json_is_real(m) ? json_real_value(m) : -1;

	json_decref(m);
	return v;
}

static double saved(struct row *r)
{
	double m = median(r);

	return m > 0 ? (double)r->reuses * m : 0;
}

static json_t *ratio(double part, double whole)
{
	return whole > 0 ? json_real(part / whole) : json_null();
}

static json_t *row_status(const struct row *r)
{
	_cleanup_free_ char *error = NULL;

	if (!r->error)
		return json_string(r->builds.n || r->uses ? "Success" : "Not built");
	error = xstrndup(r->error, strcspn(r->error, "\n"));
	error[utf8_cut(error, strlen(error), STATUS_MAX)] = '\0';
	return json_string(error);
}

/* What a measurement in isolation says, of the largest instance of it; or `otherwise` (taken). */
static json_t *measured(const json_t *bench, const char *name, const char *key, const char *of, double unit, json_t *otherwise)
{
	const json_t *fixtures = json_object_get(bench, "fixtures");
	size_t length = strlen(name);
	bool found = false;
	double most = 0;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k), *v = json_object_get(json_object_get(f, key), of);

		if (strncmp(ctl_string(f, "name"), name, length) != 0 || strcspn(ctl_string(f, "name"), "[") != length ||
		    !json_is_number(v))
			continue;
		if (!found || json_number_value(v) / unit > most)
			most = json_number_value(v) / unit;
		found = true;
	}
	if (!found)
		return otherwise;
	json_decref(otherwise);
	return json_real(most);
}

static json_t *row_json(struct row *r, const json_t *bench)
{
	double m = median(r);
	json_t *o = json_object();

	json_object_set_new(o, "name", json_string(r->name));
	json_object_set_new(o, "uses", json_integer(r->uses));
	json_object_set_new(o, "used", json_boolean(r->needed));
	json_object_set_new(o, "type", json_string(r->type));
	json_object_set_new(o, "scope", json_string(r->scope));
	json_object_set_new(o, "category", json_string(r->category));
	json_object_set_new(o, "init_s", measured(bench, r->name, "init_delta_s", "value", 1, m >= 0 ? json_real(m) : json_null()));
	json_object_set_new(
		o, "memory_mb",
		measured(bench, r->name, "memory_delta_bytes", "value", MB, r->builds.n ? json_real(r->size / MB) : json_null()));
	json_object_set_new(o, "gpu_mb", measured(bench, r->name, "gpu_delta_bytes", "median", MB, json_null()));
	json_object_set_new(o, "status", row_status(r));
	json_object_set_new(o, "builds", json_integer((json_int_t)r->builds.n));
	json_object_set_new(o, "failures", json_integer(r->failures));
	json_object_set_new(o, "reuses", json_integer(r->reuses));
	json_object_set_new(o, "hit_rate", ratio((double)r->reuses, (double)r->uses));
	json_object_set_new(o, "time_saved_s", json_real(saved(r)));
	json_object_set_new(o, "attach_p50_s", samples_quantile(&r->attaches, 0.5));
	json_object_set_new(o, "attach_p99_s", samples_quantile(&r->attaches, 0.99));
	json_object_set_new(o, "stale", json_integer(r->stale));
	json_object_set_new(o, "evictions", json_integer(r->evictions));
	json_object_set_new(o, "teardown_failures", json_integer(r->teardown_failures));
	json_object_set_new(o, "resets", json_integer(r->resets));
	json_object_set_new(o, "dirty_resets", json_integer(r->dirty));
	json_object_set_new(o, "pages_changed", json_integer(r->pages));
	return o;
}

/* How much of each category, or scope, was used. */
static json_t *summary_by(const json_t *fixtures, const char *key)
{
	json_t *groups = json_object(), *list = json_array();
	const char *name;
	json_t *g;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);

		g = json_object_get(groups, ctl_string(f, key));
		if (!g) {
			g = json_pack("{s:s, s:i, s:i}", key, ctl_string(f, key), "count", 0, "used", 0);
			json_object_set_new(groups, ctl_string(f, key), g);
		}
		json_object_set_new(g, "count", json_integer(ctl_int(g, "count") + 1));
		json_object_set_new(g, "used", json_integer(ctl_int(g, "used") + json_is_true(json_object_get(f, "used"))));
	}
	json_object_foreach(groups, name, g) {
		json_object_set_new(g, "usage_percent", json_real(100.0 * (double)ctl_int(g, "used") / (double)ctl_int(g, "count")));
		json_array_append(list, g);
	}
	json_decref(groups);
	return list;
}

static json_t *summary(const json_t *fixtures)
{
	json_int_t used = 0, total = (json_int_t)json_array_size(fixtures);

	for (size_t k = 0; k < json_array_size(fixtures); k++)
		used += json_is_true(json_object_get(json_array_get(fixtures, k), "used"));
	return json_pack("{s:I, s:I, s:o, s:I, s:o, s:o}", "total", total, "used", used, "used_percent",
			 total ? json_real(100.0 * (double)used / (double)total) : json_null(), "unused", total - used, "by_category",
			 summary_by(fixtures, "category"), "by_scope", summary_by(fixtures, "scope"));
}

/* Takes `o`; the largest come first. */
static void insert_by(json_t *list, json_t *o, const char *key)
{
	size_t at = json_array_size(list);

	while (at > 0 && ctl_real(json_array_get(list, at - 1), key) < ctl_real(o, key))
		at--;
	json_array_insert_new(list, at, o);
}

/* Names of those that `wanted` accepts, the largest `key` first; at most `max`. */
static json_t *leaders(const json_t *fixtures, const char *key, bool (*wanted)(const json_t *f), size_t max)
{
	json_t *list = json_array();

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		json_t *f = json_array_get(fixtures, k);

		if (!wanted(f))
			continue;
		insert_by(list, json_incref(f), key);
		if (json_array_size(list) > max)
			json_array_remove(list, max);
	}
	for (size_t k = 0; k < json_array_size(list); k++)
		json_array_set(list, k, json_object_get(json_array_get(list, k), "name"));
	return list;
}

static bool was_built(const json_t *f)
{
	return ctl_int(f, "builds") > 0;
}

static bool has_impact(const json_t *f)
{
	return ctl_int(f, "uses") >= HIGH_IMPACT_USES && !strcmp(ctl_string(f, "scope"), "session");
}

/* What failed was asked for. */
static bool is_unused(const json_t *f)
{
	return !json_is_true(json_object_get(f, "used")) && !ctl_int(f, "failures");
}

static json_int_t sum(const json_t *fixtures, const char *key)
{
	json_int_t n = 0;

	for (size_t k = 0; k < json_array_size(fixtures); k++)
		n += ctl_int(json_array_get(fixtures, k), key);
	return n;
}

static json_t *sharing(struct table *t, const json_t *fixtures)
{
	static const char *const sums[] = { "uses",   "builds",	      "failures",     "reuses", "stale", "evictions", "teardown_failures",
					    "resets", "dirty_resets", "pages_changed" };
	json_t *o = json_object();
	double saved_s = 0;

	for (size_t k = 0; k < ELEMENTSOF(sums); k++)
		json_object_set_new(o, sums[k], json_integer(sum(fixtures, sums[k])));
	for (size_t k = 0; k < json_array_size(fixtures); k++)
		saved_s += ctl_real(json_array_get(fixtures, k), "time_saved_s");
	json_object_set_new(o, "hit_rate", ratio((double)ctl_int(o, "reuses"), (double)ctl_int(o, "uses")));
	json_object_set_new(o, "time_saved_s", json_real(saved_s));
	json_object_set_new(o, "attach_p50_s", samples_quantile(&t->attaches, 0.5));
	json_object_set_new(o, "attach_p99_s", samples_quantile(&t->attaches, 0.99));
	json_object_set_new(o, "pages_changed_per_dirty_reset",
			    ratio((double)ctl_int(o, "pages_changed"), (double)ctl_int(o, "dirty_resets")));
	return o;
}

static json_t *cause_list(const json_t *causes)
{
	json_t *list = json_array(), *n;
	const char *cause;

	json_object_foreach((json_t *)causes, cause, n)
		insert_by(list, json_pack("{s:s, s:O}", "cause", cause, "count", n), "count");
	return list;
}

/* Whoever changed most comes first. */
static json_t *change_list(const json_t *changed)
{
	json_t *list = json_array(), *c;
	const char *key;

	json_object_foreach((json_t *)changed, key, c)
		insert_by(list, json_incref(c), "pages_changed");
	return list;
}

/* Of what has clones, how they were handed out; as status has it, with the name. */
static json_t *clone_list(const struct report_sources *s)
{
	static const char *const keys[] = { "given", "started", "wasted", "hand_out_p50_s", "hand_out_p99_s", "start_s", "saved_s" };
	const json_t *sessions = json_object_get(s->status, "sessions");
	json_t *list = json_array();

	for (size_t k = 0; k < json_array_size(sessions); k++) {
		const json_t *session = json_array_get(sessions, k), *instances = json_object_get(session, "instances");

		for (size_t n = 0; n < json_array_size(instances); n++) {
			const json_t *i = json_array_get(instances, n), *figures = json_object_get(i, "clones");
			_cleanup_free_ char *title = NULL;
			json_t *clones;

			if (!figures || (s->root && strcmp(s->root, ctl_string(session, "root")) != 0))
				continue;
			title = instance_title(i);
			clones = json_pack("{s:s}", "name", title);
			for (size_t c = 0; c < ELEMENTSOF(keys); c++)
				json_object_set(clones, keys[c], json_object_get(figures, keys[c]));
			insert_by(list, clones, "given");
		}
	}
	return list;
}

/* Of each template that was forked: every lease of it is a fork, and as long. */
static json_t *fork_list(struct table *t)
{
	json_t *list = json_array();

	for (size_t k = 0; k < t->n; k++) {
		struct row *r = &t->rows[k];

		if (strcmp(r->type, "process") != 0 || r->uses == 0)
			continue;
		insert_by(list,
			  json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:f}", "name", r->name, "forks", r->uses, "most_at_once", r->most_held,
				    "prepare_s", samples_quantile(&r->builds, 0.5), "life_p50_s", samples_quantile(&r->leases, 0.5),
				    "life_p99_s", samples_quantile(&r->leases, 0.99), "saved_s", saved(r)),
			  "forks");
	}
	return list;
}

static void table_deinit(struct table *t)
{
	for (size_t k = 0; k < t->n; k++) {
		samples_deinit(&t->rows[k].leases);
		samples_deinit(&t->rows[k].builds);
		samples_deinit(&t->rows[k].attaches);
	}
	json_decref(t->numbers);
	free(t->rows);
	samples_deinit(&t->attaches);
	json_decref(t->built);
	json_decref(t->attached);
	json_decref(t->causes);
	json_decref(t->changed);
	json_decref(t->held);
}

json_t *report_make(const struct report_sources *s)
{
	struct table t = {
		.built = json_object(), .attached = json_object(), .causes = json_object(), .changed = json_object(), .held = json_object()
	};
	const json_t *list = json_object_get(s->list, "fixtures"), *daemon = json_object_get(s->status, "daemon");
	json_t *fixtures = json_array(), *report = json_object();

	for (size_t k = 0; k < json_array_size(list); k++)
		report_make_add_fixture(&t, json_array_get(list, k));
	for (size_t k = 0; k < json_array_size(s->events); k++)
		report_make_count(&t, json_array_get(s->events, k));
	for (size_t k = 0; k < t.n; k++) {
		if (t.rows[k].uses)
			mark_needed(&t, &t.rows[k]);
	}
	if (t.n)
		qsort(t.rows, t.n, sizeof *t.rows, by_uses);
	for (size_t k = 0; k < t.n; k++)
		json_array_append_new(fixtures, row_json(&t.rows[k], s->bench));
	json_object_set_new(report, "generated", json_real(s->now));
	json_object_set_new(report, "version", json_string(ctl_string(daemon, "version")));
	json_object_set_new(report, "root", json_string(s->root ? s->root : ctl_string(s->list, "root")));
	json_object_set_new(report, "since", s->since > 0 ? json_real(s->since) : json_null());
	json_object_set_new(report, "first_event",
			    json_array_size(s->events) ? json_real(ctl_real(json_array_get(s->events, 0), "time")) : json_null());
	json_object_set_new(report, "lost", json_boolean(s->lost));
	json_object_set_new(report, "events", json_integer((json_int_t)json_array_size(s->events)));
	json_object_set_new(report, "summary", summary(fixtures));
	json_object_set_new(report, "fixtures", fixtures);
	json_object_set_new(report, "slowest", leaders(fixtures, "init_s", was_built, TOP));
	json_object_set_new(report, "most_memory", leaders(fixtures, "memory_mb", was_built, TOP));
	json_object_set_new(report, "high_impact", leaders(fixtures, "uses", has_impact, SIZE_MAX));
	json_object_set_new(report, "unused", leaders(fixtures, "uses", is_unused, SIZE_MAX));
	json_object_set_new(report, "sharing", sharing(&t, fixtures));
	json_object_set_new(report, "clones", clone_list(s));
	json_object_set_new(report, "forks", fork_list(&t));
	json_object_set_new(report, "stale_causes", cause_list(t.causes));
	json_object_set_new(report, "changed_by", change_list(t.changed));
	json_object_set_new(report, "culprits", report_culprits(s->events));
	table_deinit(&t);
	return report;
}
