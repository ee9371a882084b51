/* SPDX-License-Identifier: MIT */
/*
 * When each fixture was built and held, as rows of a chart. Time in which nothing happened is cut out, so that a morning and an evening
 * stand side by side; what is short has a width that can be seen.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/units.h"
#include "base/vector.h"
#include "fixctl/fixctl.h"
#include "fixctl/instance.h"
#include "fixctl/markup.h"
#include "fixctl/report.h"

/* In units of the chart, which is as wide as there is room for it. */
enum { WIDTH = 1000, CUT_WIDTH = 24, SEEN_WIDTH = 4, LEAST_WIDTH = 12, TICK_WIDTH = 130, APART_WIDTH = 330 };
/* Cuts take room: of many gaps only the longest are cut, and none that is short beside what has happened. */
enum { CUTS_MAX = 8, GAP_SHARE = 4 };

enum kind { LEASE, BUILD, FAILURE };

/* A build or a lease of one row. */
struct span {
	enum kind kind;
	size_t row;
	double from, to;
	const char *words; /* of a failure */
};

/* Time that is shown without a cut, and from where on. */
struct stretch {
	double from, to, at;
};

struct timeline {
	const json_t *fixtures;
	json_t *rows; /* by name: index in that */
	struct vector spans;
	struct stretch stretches[CUTS_MAX + 1];
	size_t n_stretches;
	double scale; /* units a second */
	double cut;   /* seconds */
	json_t *open, *building;
};

#define NOWHERE SIZE_MAX

static size_t row_of(const struct timeline *t, const char *title)
{
	const json_t *row = instance_fixture(t->rows, title);

	return row ? (size_t)json_integer_value(row) : NOWHERE;
}

static void add_span(struct timeline *t, enum kind kind, const json_t *e, double from, double to)
{
	size_t row = row_of(t, ctl_string(e, "name"));
	struct span *s;

	if (row == NOWHERE)
		return;
	s = xcalloc(1, sizeof *s);
	*s = (struct span){ .kind = kind, .row = row, .from = from, .to = to > from ? to : from, .words = ctl_string(e, "error") };
	vector_add(&t->spans, s);
}

static void add_event(struct timeline *t, const json_t *e)
{
	const char *event = ctl_string(e, "event"), *name = ctl_string(e, "name");
	double time = ctl_real(e, "time");
	_cleanup_free_ char *number = xasprintf("%lld", (long long)ctl_int(e, !strcmp(event, "detach") ? "of" : "number"));
	const json_t *attach = json_object_get(t->open, number);

	if (!strcmp(event, "build")) {
		json_object_set_new(t->building, name, json_real(time));
	} else if (!strcmp(event, "ready")) {
		add_span(t, BUILD, e, time - ctl_real(e, "build_s"), time);
	} else if (!strcmp(event, "failed")) {
		const json_t *began = json_object_get(t->building, name);

		add_span(t, FAILURE, e, began ? json_number_value(began) : time, time);
	} else if (!strcmp(event, "attach")) {
		json_object_set(t->open, number, (json_t *)e);
	} else if (!strcmp(event, "detach") && attach) {
		add_span(t, LEASE, attach, ctl_real(attach, "time"), time);
		json_object_del(t->open, number);
	}
}

static void add_events(struct timeline *t, const json_t *events)
{
	const char *number;
	json_t *attach;
	size_t n = json_array_size(events);

	for (size_t k = 0; k < n; k++)
		add_event(t, json_array_get(events, k));
	json_object_foreach(t->open, number, attach)
		add_span(t, LEASE, attach, ctl_real(attach, "time"), ctl_real(json_array_get(events, n - 1), "time"));
}

static int by_begin(const void *a, const void *b)
{
	const struct span *x = *(const struct span *const *)a, *y = *(const struct span *const *)b;

	return x->from < y->from ? -1 : x->from > y->from;
}

static int longest_first(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x > y ? -1 : x < y;
}

/* The length from which on a gap is cut. */
static double shortest_cut(const struct timeline *t)
{
	double *gaps = xcalloc(t->spans.n + 1, sizeof *gaps), end = 0, busy = 0, least;
	size_t n = 0;

	for (size_t k = 0; k < t->spans.n; k++) {
		const struct span *s = t->spans.all[k];

		if (k && s->from > end)
			gaps[n++] = s->from - end;
		busy += s->to > end ? s->to - (k && end > s->from ? end : s->from) : 0;
		end = k == 0 || s->to > end ? s->to : end;
	}
	qsort(gaps, n, sizeof *gaps, longest_first);
	least = n > CUTS_MAX ? gaps[CUTS_MAX - 1] : 0;
	free(gaps);
	return least > busy / GAP_SHARE ? least : busy / GAP_SHARE;
}

/* Ordered by their begin. */
static void find_stretches(struct timeline *t)
{
	double least = shortest_cut(t), shown = 0;
	struct stretch *last = NULL;

	for (size_t k = 0; k < t->spans.n; k++) {
		const struct span *s = t->spans.all[k];

		if (!last || (s->from - last->to > least && s->from > last->to && t->n_stretches <= CUTS_MAX)) {
			t->cut += last ? s->from - last->to : 0;
			last = &t->stretches[t->n_stretches++];
			*last = (struct stretch){ s->from, s->to, 0 };
		} else if (s->to > last->to) {
			last->to = s->to;
		}
	}
	for (size_t k = 0; k < t->n_stretches; k++)
		shown += t->stretches[k].to - t->stretches[k].from;
	t->scale = (WIDTH - CUT_WIDTH * ((double)t->n_stretches - 1) - LEAST_WIDTH * (double)t->n_stretches) / (shown > 0 ? shown : 1);
	for (size_t k = 1; k < t->n_stretches; k++) {
		last = &t->stretches[k - 1];
		t->stretches[k].at = last->at + (last->to - last->from) * t->scale + LEAST_WIDTH + CUT_WIDTH;
	}
}

static double place_of(const struct timeline *t, double time)
{
	const struct stretch *s = &t->stretches[0];

	for (size_t k = 1; k < t->n_stretches && t->stretches[k].from <= time; k++)
		s = &t->stretches[k];
	return s->at + ((time < s->to ? time : s->to) - s->from) * t->scale;
}

/* "5 s", "200 ms", "2 min": without what would be zero. */
static const char *round_span(char buf[32], double seconds)
{
	if (seconds < 1)
		snprintf(buf, 32, seconds < 1e-3 ? "%g us" : "%g ms", seconds * (seconds < 1e-3 ? 1e6 : 1e3));
	else if (seconds < 60)
		snprintf(buf, 32, "%g s", seconds);
	else
		format_duration(buf, 32, (int64_t)seconds * NSEC_PER_SEC);
	return buf;
}

/* The shortest of the usual steps for which there is room. */
static double step_of(const struct timeline *t)
{
	static const double steps[] = { 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400 };
	static const double fractions[] = { 1, 2, 5 };
	double least = TICK_WIDTH / t->scale, unit = 1e-6;

	for (size_t k = 0; k < 6 * ELEMENTSOF(fractions); k++) {
		if (unit * fractions[k % ELEMENTSOF(fractions)] >= least)
			return unit * fractions[k % ELEMENTSOF(fractions)];
		unit *= (k + 1) % ELEMENTSOF(fractions) ? 1 : 10;
	}
	for (size_t k = 0; k < ELEMENTSOF(steps); k++) {
		if (steps[k] >= least)
			return steps[k];
	}
	/* Days. */
	return 86400 * (double)((int64_t)(least / 86400) + 1);
}

/* Labels that a narrow page has no room for are "near": true, it is shown there, too. */
static bool put_label(FILE *out, double at, double *last, bool near, const char *words)
{
	near |= at - *last < APART_WIDTH || at > WIDTH - APART_WIDTH / 2;

	fprintf(out, "<span%s style=\"left:%.1f%%\">%s</span>", near ? " class=\"near\"" : "", at / WIDTH * 100, words);
	if (!near)
		*last = at;
	return !near;
}

static void put_axis(FILE *out, const struct timeline *t)
{
	double step = step_of(t), last = -WIDTH, any = -WIDTH;
	char words[40], span[32];

	fputs("<div class=\"row axis\"><span class=\"name\"></span><div>", out);
	for (size_t k = 0; k < t->n_stretches; k++) {
		const struct stretch *s = &t->stretches[k];
		double length = s->to - s->from;
		bool told = false, told_near = false; /* from when on they count */

		if (s->at - any >= TICK_WIDTH && s->at <= WIDTH - TICK_WIDTH / 2) {
			ctl_time(words, sizeof words, s->from);
			told_near = put_label(out, s->at, &last, false, words + strlen("2026-01-15 "));
			told = true;
			any = s->at;
		}
		for (size_t n = 1; told && (double)n * step <= length; n++) {
			double at = s->at + (double)n * step * t->scale;

			if (at - any < TICK_WIDTH || at > WIDTH - TICK_WIDTH / 2)
				continue;
			snprintf(words, sizeof words, "+%s", round_span(span, (double)n * step));
			put_label(out, at, &last, !told_near, words);
			any = at;
		}
	}
	fputs("</div></div>\n", out);
}

static void put_rect(FILE *out, double from, double to, const char *class, double opacity, const char *words)
{
	double width = to - from > SEEN_WIDTH ? to - from : SEEN_WIDTH;

	fprintf(out, "<rect class=\"%s\" x=\"%.1f\" width=\"%.1f\" y=\"%d\" height=\"%d\"", class,
		from > WIDTH - width ? WIDTH - width : from, width, !strcmp(class, "held") ? 9 : 1, !strcmp(class, "held") ? 8 : 7);
	if (opacity < 1)
		fprintf(out, " opacity=\"%.2f\"", opacity);
	fputs("><title>", out);
	markup_text(out, words);
	fputs("</title></rect>", out);
}

/* How many leases there were in each unit, the darker the more. */
static void put_leases(FILE *out, const struct timeline *t, const struct vector *spans)
{
	int leases[WIDTH + 1] = { 0 }, most = 1;
	char words[40];

	for (size_t k = 0; k < spans->n; k++) {
		const struct span *s = spans->all[k];

		for (int x = (int)place_of(t, s->from); s->kind == LEASE && x <= (int)place_of(t, s->to) && x < WIDTH; x++)
			most = ++leases[x] > most ? leases[x] : most;
	}
	for (int x = 0, end; x < WIDTH; x = end) {
		for (end = x + 1; end < WIDTH && leases[end] == leases[x]; end++)
			;
		snprintf(words, sizeof words, "held by %d at once", leases[x]);
		if (leases[x])
			put_rect(out, x, end, "held", 0.3 + 0.7 * leases[x] / most, words);
	}
}

static void put_row(FILE *out, const struct timeline *t, const char *name, const struct vector *spans)
{
	char took[32];

	fputs("<div class=\"row\"><span class=\"name\" title=\"", out);
	markup_text(out, name);
	fputs("\">", out);
	markup_end_of(out, name, 32);
	fprintf(out, "</span><svg viewBox=\"0 0 %d 18\" preserveAspectRatio=\"none\">", WIDTH);
	for (size_t k = 0; k + 1 < t->n_stretches; k++)
		fprintf(out, "<rect class=\"cut\" x=\"%.1f\" y=\"0\" width=\"%d\" height=\"18\"/>", t->stretches[k + 1].at - CUT_WIDTH,
			CUT_WIDTH);
	put_leases(out, t, spans);
	for (size_t k = 0; k < spans->n; k++) {
		const struct span *s = spans->all[k];
		_cleanup_free_ char *words =
			s->kind == FAILURE
				? xasprintf("failed: %s", s->words)
				: xasprintf("built in %s", format_duration(took, sizeof took, (int64_t)((s->to - s->from) * 1e9)));

		if (s->kind != LEASE)
			put_rect(out, place_of(t, s->from), place_of(t, s->to), s->kind == BUILD ? "built" : "bad", 1, words);
	}
	fputs("</svg></div>\n", out);
}

/* Those that have anything, in the order of the fixtures; behind the first `shown` they are folded. */
static void put_rows(FILE *out, const struct timeline *t, size_t shown)
{
	size_t n = json_array_size(t->fixtures), put = 0;
	struct vector *rows = xcalloc(n + 1, sizeof *rows);

	for (size_t k = 0; k < t->spans.n; k++)
		vector_add(&rows[((struct span *)t->spans.all[k])->row], t->spans.all[k]);
	for (size_t k = 0; k < n; k++) {
		if (rows[k].n == 0)
			continue;
		if (put++ == shown)
			fputs("<details><summary>The others, whose builds take less</summary>\n", out);
		put_row(out, t, ctl_string(json_array_get(t->fixtures, k), "name"), &rows[k]);
		vector_deinit(&rows[k]);
	}
	fputs(put > shown ? "</details>\n" : "", out);
	free(rows);
}

static void put_legend(FILE *out, const struct timeline *t)
{
	const struct stretch *last = &t->stretches[t->n_stretches - 1];
	char span[32], cut[32];

	fprintf(out, "<p class=\"dim\">%s in all",
		format_duration(span, sizeof span, (int64_t)((last->to - t->stretches[0].from) * NSEC_PER_SEC)));
	if (t->n_stretches > 1)
		fprintf(out, "; %s of it, in which nothing happened, are cut out (grey)",
			format_duration(cut, sizeof cut, (int64_t)(t->cut * NSEC_PER_SEC)));
	fputs(". Above: <b class=\"built\">built</b>, <b class=\"bad\">failed</b>; below: <b class=\"held\">held</b>, the darker the more at once.</p>\n",
	      out);
}

void report_put_timeline(FILE *out, const json_t *fixtures, const json_t *events, size_t shown)
{
	struct timeline t = { .fixtures = fixtures, .rows = json_object(), .open = json_object(), .building = json_object() };

	for (size_t k = 0; k < json_array_size(fixtures); k++)
		json_object_set_new(t.rows, ctl_string(json_array_get(fixtures, k), "name"), json_integer((json_int_t)k));
	fputs("<h2>Timeline</h2>\n", out);
	add_events(&t, events);
	if (t.spans.n) {
		qsort(t.spans.all, t.spans.n, sizeof *t.spans.all, by_begin);
		find_stretches(&t);
		put_legend(out, &t);
		fputs("<div class=\"chart\">\n", out);
		put_axis(out, &t);
		put_rows(out, &t, shown);
		fputs("</div>\n", out);
	} else {
		fputs("<p>Nothing has happened.</p>\n", out);
	}
	for (size_t k = 0; k < t.spans.n; k++)
		free(t.spans.all[k]);
	vector_deinit(&t.spans);
	json_decref(t.rows);
	json_decref(t.open);
	json_decref(t.building);
}
