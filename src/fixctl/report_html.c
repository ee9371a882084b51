/* SPDX-License-Identifier: MIT */
/* One file that needs nothing else: no network, no script. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/graph.h"
#include "fixctl/markup.h"
#include "fixctl/report.h"

enum { LABEL_WIDTH = 200, PLOT_WIDTH = 800, ROW_HEIGHT = 22, ROWS_MAX = 60, BARS_MAX = 20 };

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Fixture Report</title>\n<style>\n"
	":root { --ink: #1c2128; --dim: #5b6573; --line: #d7dce2; --paper: #ffffff; --tile: #f4f6f8; --bar: #2f6fab; --build: #b4552d; }\n"
	"@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --dim: #98a3b1; --line: #39424d; --paper: #14181d; --tile: #1e242b;"
	" --bar: #6aa9e0; --build: #e08a5f; } }\n"
	"body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1060px; margin: 2rem auto; padding: 0 1rem; }\n"
	"h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }\n"
	".dim { color: var(--dim); } .scroll { overflow-x: auto; }\n"
	".tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .7rem; margin: 1.2rem 0; }\n"
	".tile { background: var(--tile); border-radius: 6px; padding: .6rem .8rem; } .tile b { display: block; font-size: 1.3rem; }\n"
	"table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }\n"
	"th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); } .n { text-align: right; }\n"
	"svg { max-width: 100%; height: auto; } .chart text { fill: var(--ink); } .graph svg { background: #ffffff; border-radius: 6px; }\n"
	"</style>\n</head>\n<body>\n";

struct column {
	const char *title, *key;
	int decimals; /* of a number; WORDS: a string */
	double scale;
	const char *unit;
};
#define WORDS -1

static void put_cell(FILE *out, const struct column *c, const json_t *row)
{
	const json_t *v = json_object_get(row, c->key);

	fprintf(out, c->decimals == WORDS ? "<td>" : "<td class=\"n\">");
	if (json_is_number(v))
		fprintf(out, "%.*f%s", c->decimals, json_number_value(v) * c->scale, c->unit);
	else
		markup_text(out, c->decimals == WORDS ? ctl_string(row, c->key) : "N/A");
	fputs("</td>", out);
}

static void put_table(FILE *out, const char *id, const struct column *columns, size_t n, const json_t *rows)
{
	fprintf(out, "<div class=\"scroll\"><table id=\"%s\">\n<tr>", id);
	for (size_t k = 0; k < n; k++)
		fprintf(out, "<th%s>%s</th>", columns[k].decimals == WORDS ? "" : " class=\"n\"", columns[k].title);
	fputs("</tr>\n", out);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		fputs("<tr>", out);
		for (size_t k = 0; k < n; k++)
			put_cell(out, &columns[k], json_array_get(rows, i));
		fputs("</tr>\n", out);
	}
	fputs("</table></div>\n", out);
}

static void put_tile(FILE *out, const char *title, const char *value)
{
	fprintf(out, "<div class=\"tile\"><b>%s</b>%s</div>\n", value, title);
}

static void put_tiles(FILE *out, const json_t *report)
{
	static const struct {
		const char *title, *of, *key;
		int decimals;
		double scale;
		const char *unit;
	} tiles[] = {
		{ "fixtures", "summary", "total", 0, 1, "" },
		{ "of them used", "summary", "used_percent", 1, 1, "%" },
		{ "attaches", "sharing", "uses", 0, 1, "" },
		{ "builds", "sharing", "builds", 0, 1, "" },
		{ "reuses", "sharing", "reuses", 0, 1, "" },
		{ "hit rate", "sharing", "hit_rate", 1, 100, "%" },
		{ "time saved", "sharing", "time_saved_s", 3, 1, " s" },
		{ "attach in the daemon, p50", "sharing", "attach_p50_s", 1, 1e6, " µs" },
		{ "attach in the daemon, p99", "sharing", "attach_p99_s", 1, 1e6, " µs" },
		{ "pages changed before a reset", "sharing", "pages_changed_per_dirty_reset", 1, 1, "" },
		{ "failed builds", "sharing", "failures", 0, 1, "" },
		{ "evictions", "sharing", "evictions", 0, 1, "" },
	};
	char value[64];

	fputs("<div class=\"tiles\">\n", out);
	for (size_t k = 0; k < ELEMENTSOF(tiles); k++) {
		const json_t *v = json_object_get(json_object_get(report, tiles[k].of), tiles[k].key);

		if (json_is_number(v))
			snprintf(value, sizeof value, "%.*f%s", tiles[k].decimals, json_number_value(v) * tiles[k].scale, tiles[k].unit);
		put_tile(out, tiles[k].title, json_is_number(v) ? value : "N/A");
	}
	fputs("</div>\n", out);
}

static void begin_svg(FILE *out, int width, int height, const char *label)
{
	fprintf(out, "<svg class=\"chart\" xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"%s\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
		"font-family=\"system-ui, sans-serif\" font-size=\"12\">\n", label, width, height, width, height);
}

static void put_label(FILE *out, size_t row, const char *name)
{
	fprintf(out, "<text x=\"%d\" y=\"%zu\" text-anchor=\"end\">", LABEL_WIDTH - 8, row * ROW_HEIGHT + 15);
	markup_end_of(out, name, 28);
	fputs("</text>\n", out);
}

static int by_saved(const void *a, const void *b)
{
	double x = ctl_real(*(json_t *const *)a, "time_saved_s"), y = ctl_real(*(json_t *const *)b, "time_saved_s");

	return x < y ? 1 : x > y ? -1 : 0;
}

static void put_bars(FILE *out, const json_t *fixtures)
{
	json_t **all = xcalloc(json_array_size(fixtures) + 1, sizeof(json_t *));
	size_t n = 0;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		if (ctl_real(json_array_get(fixtures, k), "time_saved_s") > 0)
			all[n++] = json_array_get(fixtures, k);
	}
	qsort(all, n, sizeof(json_t *), by_saved);
	n = n < BARS_MAX ? n : BARS_MAX;
	fputs("<h2>Time saved</h2>\n", out);
	if (n == 0)
		fputs("<p>Nothing was used twice yet.</p>\n", out);
	else
		begin_svg(out, LABEL_WIDTH + PLOT_WIDTH, (int)n * ROW_HEIGHT, "Time saved by fixture");
	for (size_t k = 0; k < n; k++) {
		double width = ctl_real(all[k], "time_saved_s") / ctl_real(all[0], "time_saved_s") * (PLOT_WIDTH - 90);

		put_label(out, k, ctl_string(all[k], "name"));
		fprintf(out, "<rect x=\"%d\" y=\"%zu\" width=\"%.1f\" height=\"%d\" rx=\"2\" fill=\"var(--bar)\"/><text x=\"%.1f\" y=\"%zu\">%.3f s</text>\n",
			LABEL_WIDTH, k * ROW_HEIGHT + 3, width < 1 ? 1 : width, ROW_HEIGHT - 6, LABEL_WIDTH + width + 6, k * ROW_HEIGHT + 15,
			ctl_real(all[k], "time_saved_s"));
	}
	if (n)
		fputs("</svg>\n", out);
	free(all);
}

/* When something was built and held: how many leases there were in each column of the plot. */
struct line {
	const char *name;
	int leases[PLOT_WIDTH + 1];
	bool built[PLOT_WIDTH + 1];
};

struct timeline {
	struct line *lines;
	size_t n;
	double from, to;
	json_t *open; /* number of an attach: its event */
};

static struct line *find_line(struct timeline *t, const char *title)
{
	size_t n = strcspn(title, "[ ");

	for (size_t k = 0; k < t->n; k++) {
		if (strlen(t->lines[k].name) == n && !strncmp(t->lines[k].name, title, n))
			return &t->lines[k];
	}
	return NULL;
}

static int column_of(const struct timeline *t, double time)
{
	double x = t->to > t->from ? (time - t->from) / (t->to - t->from) * PLOT_WIDTH : 0;

	return x < 0 ? 0 : x >= PLOT_WIDTH ? PLOT_WIDTH - 1 : (int)x;
}

static void add_lease(struct timeline *t, const json_t *attach, double end)
{
	struct line *l = find_line(t, ctl_string(attach, "name"));

	for (int x = column_of(t, ctl_real(attach, "time")); l && x <= column_of(t, end); x++)
		l->leases[x]++;
}

static void add_build(struct timeline *t, const json_t *ready)
{
	struct line *l = find_line(t, ctl_string(ready, "name"));
	double end = ctl_real(ready, "time");

	for (int x = column_of(t, end - ctl_real(ready, "build_s")); l && x <= column_of(t, end); x++)
		l->built[x] = true;
}

static void add_event(struct timeline *t, const json_t *e)
{
	const char *event = ctl_string(e, "event");
	_cleanup_free_ char *number = xasprintf("%lld", (long long)ctl_int(e, !strcmp(event, "detach") ? "of" : "number"));

	if (!strcmp(event, "ready")) {
		add_build(t, e);
	} else if (!strcmp(event, "attach")) {
		json_object_set(t->open, number, (json_t *)e);
	} else if (!strcmp(event, "detach") && json_object_get(t->open, number)) {
		add_lease(t, json_object_get(t->open, number), ctl_real(e, "time"));
		json_object_del(t->open, number);
	}
}

static void put_line(FILE *out, const struct line *l, size_t row)
{
	int most = 1;

	put_label(out, row, l->name);
	for (int x = 0; x < PLOT_WIDTH; x++)
		most = l->leases[x] > most ? l->leases[x] : most;
	for (int x = 0, end; x < PLOT_WIDTH; x = end) {
		for (end = x + 1; end < PLOT_WIDTH && l->leases[end] == l->leases[x]; end++)
			;
		if (l->leases[x])
			fprintf(out, "<rect x=\"%d\" y=\"%zu\" width=\"%d\" height=\"%d\" fill=\"var(--bar)\" opacity=\"%.2f\"><title>%d leases</title></rect>",
				LABEL_WIDTH + x, row * ROW_HEIGHT + 9, end - x, ROW_HEIGHT - 11, 0.3 + 0.7 * l->leases[x] / most, l->leases[x]);
	}
	for (int x = 0, end; x < PLOT_WIDTH; x = end) {
		for (end = x + 1; end < PLOT_WIDTH && l->built[end] == l->built[x]; end++)
			;
		if (l->built[x])
			fprintf(out, "<rect x=\"%d\" y=\"%zu\" width=\"%d\" height=\"5\" fill=\"var(--build)\"><title>built</title></rect>",
				LABEL_WIDTH + x, row * ROW_HEIGHT + 3, end - x);
	}
	putc('\n', out);
}

static void put_timeline(FILE *out, const json_t *fixtures, const struct report_sources *s)
{
	size_t n = json_array_size(s->events);
	struct timeline t = { .open = json_object(), .to = s->now };
	const char *number;
	json_t *attach;
	char span[32];

	fputs("<h2>Timeline</h2>\n", out);
	if (n == 0) {
		fputs("<p>Nothing has happened.</p>\n", out);
		json_decref(t.open);
		return;
	}
	t.from = ctl_real(json_array_get(s->events, 0), "time");
	t.to = ctl_real(json_array_get(s->events, n - 1), "time");
	t.lines = xcalloc(json_array_size(fixtures) + 1, sizeof *t.lines);
	for (size_t k = 0; k < json_array_size(fixtures) && t.n < ROWS_MAX; k++) {
		const json_t *f = json_array_get(fixtures, k);

		if (ctl_int(f, "uses") || ctl_int(f, "builds"))
			t.lines[t.n++].name = ctl_string(f, "name");
	}
	for (size_t k = 0; k < n; k++)
		add_event(&t, json_array_get(s->events, k));
	json_object_foreach(t.open, number, attach)
		add_lease(&t, attach, t.to);
	fprintf(out, "<p class=\"dim\">%s. Above: built; below: held, the darker the more at once.</p>\n",
		format_duration(span, sizeof span, (int64_t)((t.to - t.from) * 1e9)));
	begin_svg(out, LABEL_WIDTH + PLOT_WIDTH, (int)t.n * ROW_HEIGHT, "Timeline of builds and leases");
	for (size_t k = 0; k < t.n; k++)
		put_line(out, &t.lines[k], k);
	fputs("</svg>\n", out);
	json_decref(t.open);
	free(t.lines);
}

static void put_names(FILE *out, const char *title, const json_t *names)
{
	fprintf(out, "<h3>%s</h3>\n<p>", title);
	for (size_t k = 0; k < json_array_size(names); k++) {
		fputs(k ? ", <code>" : "<code>", out);
		markup_text(out, json_string_value(json_array_get(names, k)));
		fputs("</code>", out);
	}
	fputs(json_array_size(names) ? "</p>\n" : "None.</p>\n", out);
}

static void put_head(FILE *out, const json_t *report)
{
	char when[64];

	fputs(head, out);
	fprintf(out, "<h1>Fixture Report</h1>\n<p class=\"dim\">%s · ", ctl_time(when, sizeof when, ctl_real(report, "generated")));
	markup_text(out, ctl_string(report, "root"));
	fprintf(out, " · fixd %s", ctl_string(report, "version"));
	if (json_is_number(json_object_get(report, "first_event")))
		fprintf(out, " · %lld events since %s%s", (long long)ctl_int(report, "events"),
			ctl_time(when, sizeof when, ctl_real(report, "first_event")),
			json_is_true(json_object_get(report, "lost")) ? " (there were older ones)" : "");
	fputs("</p>\n", out);
}

void report_write_html(FILE *out, const json_t *report, const struct report_sources *s)
{
	static const struct column of_fixtures[] = {
		{ "Fixture Name", "name", WORDS, 0, "" },	 { "Uses", "uses", 0, 1, "" },
		{ "Type", "type", WORDS, 0, "" },		 { "Scope", "scope", WORDS, 0, "" },
		{ "Category", "category", WORDS, 0, "" },	 { "Init Time (s)", "init_s", 3, 1, "" },
		{ "Memory Δ (MB)", "memory_mb", 1, 1, "" },	 { "GPU Δ (MB)", "gpu_mb", 1, 1, "" },
		{ "Status", "status", WORDS, 0, "" },		 { "Builds", "builds", 0, 1, "" },
		{ "Reuses", "reuses", 0, 1, "" },		 { "Hit rate", "hit_rate", 1, 100, "%" },
		{ "Time saved (s)", "time_saved_s", 3, 1, "" },
	};
	static const struct column of_groups[2][4] = {
		{ { "Category", "category", WORDS, 0, "" }, { "Count", "count", 0, 1, "" }, { "Used", "used", 0, 1, "" }, { "Usage %", "usage_percent", 1, 1, "%" } },
		{ { "Scope", "scope", WORDS, 0, "" }, { "Count", "count", 0, 1, "" }, { "Used", "used", 0, 1, "" }, { "Usage %", "usage_percent", 1, 1, "%" } },
	};
	static const struct column of_causes[] = { { "Cause", "cause", WORDS, 0, "" }, { "Count", "count", 0, 1, "" } };
	static const struct column of_changes[] = {
		{ "Test", "test", WORDS, 0, "" },
		{ "Fixture Name", "name", WORDS, 0, "" },
		{ "Scope", "scope", WORDS, 0, "" },
		{ "Times", "dirty_resets", 0, 1, "" },
		{ "Pages", "pages_changed", 0, 1, "" },
	};
	const json_t *fixtures = json_object_get(report, "fixtures"), *summary = json_object_get(report, "summary");

	put_head(out, report);
	put_tiles(out, report);
	put_bars(out, fixtures);
	put_timeline(out, fixtures, s);
	fputs("<h2>Dependencies</h2>\n<div class=\"scroll graph\">\n", out);
	graph_write_svg(out, s->list, s->status);
	fputs("</div>\n<h2>Fixtures</h2>\n", out);
	put_table(out, "fixtures", of_fixtures, ELEMENTSOF(of_fixtures), fixtures);
	fputs("<h2>Summary</h2>\n", out);
	put_table(out, "by-category", of_groups[0], 4, json_object_get(summary, "by_category"));
	fputs("<p></p>\n", out);
	put_table(out, "by-scope", of_groups[1], 4, json_object_get(summary, "by_scope"));
	fputs("<h2>Insights</h2>\n", out);
	put_names(out, "Slowest Initialization (Top 5)", json_object_get(report, "slowest"));
	put_names(out, "Most Memory Intensive (Top 5)", json_object_get(report, "most_memory"));
	put_names(out, "High-Impact Optimization Targets", json_object_get(report, "high_impact"));
	put_names(out, "Unused Fixtures (Consider for Removal)", json_object_get(report, "unused"));
	fputs("<h2>Why images became stale</h2>\n", out);
	put_table(out, "causes", of_causes, ELEMENTSOF(of_causes), json_object_get(report, "stale_causes"));
	fputs("<h2>Tests that changed a fixture (undone)</h2>\n", out);
	put_table(out, "changes", of_changes, ELEMENTSOF(of_changes), json_object_get(report, "changed_by"));
	fputs("</body>\n</html>\n", out);
}
