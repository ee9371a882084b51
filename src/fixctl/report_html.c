/* SPDX-License-Identifier: MIT */
/* One file that needs nothing else: no network, and where scripts do not run, only the sorting of tables is missing. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/graph.h"
#include "fixctl/markup.h"
#include "fixctl/report.h"

/* So many are shown at first, and so many boxes in a graph. */
enum { SHOWN = 30, FAILURES_SHOWN = 8, BARS_MAX = 20, BOXES_MAX = 60 };

static const char head[] =
	"<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	"<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Fixture Report</title>\n<style>\n"
	":root { --ink: #1c2128; --dim: #5b6573; --line: #d7dce2; --paper: #ffffff; --tile: #f4f6f8; --bar: #2f6fab; --build: #b4552d; --bad: #c3142d; }\n"
	"@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --dim: #98a3b1; --line: #39424d; --paper: #14181d; --tile: #1e242b;"
	" --bar: #6aa9e0; --build: #e08a5f; --bad: #ff6b7a; } }\n"
	"body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1200px; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }\n"
	"table { overflow-wrap: normal; }\n"
	"h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }\n"
	".dim { color: var(--dim); overflow-wrap: anywhere; } .scroll { overflow-x: auto; }\n"
	".tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .7rem; margin: 1.2rem 0; }\n"
	".tile { background: var(--tile); border-radius: 6px; padding: .6rem .8rem; } .tile b { display: block; font-size: 1.3rem; }\n"
	"table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }\n"
	"th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } .n { text-align: right; }\n"
	"th:first-child, td:first-child { position: sticky; left: 0; background: var(--paper); }\n"
	"th[aria-sort] { cursor: pointer; } th[aria-sort=ascending]::after { content: \" \\25b4\"; } th[aria-sort=descending]::after { content: \" \\25be\"; }\n"
	"input:not(:checked) ~ .scroll .more { display: none; }\n"
	".row { display: grid; grid-template-columns: 290px 1fr; gap: 0 .6rem; align-items: center; }\n"
	".row .name { text-align: right; font-size: 13px; white-space: nowrap; overflow: hidden; line-height: 1.2; } .row svg { width: 100%; height: 22px; display: block; }\n"
	".row .bar { display: flex; align-items: center; gap: .4rem; height: 22px; font-size: 13px; white-space: nowrap; }\n"
	".row .bar i { height: 16px; border-radius: 2px; background: var(--bar); }\n"
	".axis div { position: relative; height: 18px; font-size: 12px; color: var(--dim); white-space: nowrap; }\n"
	".axis div span { position: absolute; border-left: 1px solid var(--line); padding-left: 3px; }\n"
	"rect.held { fill: var(--bar); } rect.built { fill: var(--build); } rect.bad { fill: var(--bad); } rect.cut { fill: var(--line); opacity: .6; }\n"
	"b.held { color: var(--bar); } b.built { color: var(--build); } .bad { color: var(--bad); }\n"
	"pre { background: var(--tile); border-left: 3px solid var(--bad); padding: .5rem .8rem; white-space: pre-wrap; margin-top: .2rem; }\n"
	"summary, label { cursor: pointer; color: var(--dim); } .graph svg { background: #ffffff; border-radius: 6px; }\n"
	"@media (prefers-color-scheme: dark) { .graph svg { background: none; filter: invert(1) hue-rotate(180deg); } }\n"
	"@media (min-width: 641px) { td wbr { display: none; } }\n"
	"@media (max-width: 640px) { .row { grid-template-columns: 1fr; } .row .name { text-align: left; padding-top: .3rem; } .axis .name, .axis .near { display: none; }\n"
	" th:first-child, td:first-child { max-width: 40vw; overflow-wrap: anywhere; min-width: 7rem; } .bad, .long { min-width: 12rem; }\n"
	" .tiles { grid-template-columns: 1fr 1fr; } }\n"
	"</style>\n</head>\n<body>\n";

/* Tables can be sorted where scripts run, and are what they are elsewhere. Of a folded one the first rows are shown, whichever these are. */
static const char foot[] =
	"<script>\n"
	"for (const th of document.querySelectorAll('th')) {\n"
	"	th.setAttribute('aria-sort', 'none');\n"
	"	th.title = 'sort by this';\n"
	"	th.tabIndex = 0;\n"
	"	th.addEventListener('keydown', e => { if (e.key == 'Enter') th.click(); });\n"
	"	th.addEventListener('click', () => {\n"
	"		const table = th.closest('table'), at = th.cellIndex, rows = [...table.rows].slice(1);\n"
	"		const down = th.getAttribute('aria-sort') == 'none' ? th.className == 'n' : th.getAttribute('aria-sort') == 'ascending';\n"
	"		const key = r => th.className == 'n' ? (isNaN(parseFloat(r.cells[at].textContent)) ? -1 : parseFloat(r.cells[at].textContent)) : r.cells[at].textContent;\n"
	"		for (const other of table.rows[0].cells) other.setAttribute('aria-sort', 'none');\n"
	"		th.setAttribute('aria-sort', down ? 'descending' : 'ascending');\n"
	"		rows.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (down ? -1 : 1));\n"
	"		const shown = rows.filter(r => !r.classList.contains('more')).length;\n"
	"		rows.forEach((r, k) => { r.classList.toggle('more', k >= shown); table.tBodies[0].append(r); });\n"
	"	});\n"
	"}\n"
	"</script>\n</body>\n</html>\n";

struct column {
	const char *title, *key;
	int decimals; /* of a number; WORDS: a string */
	double scale;
	const char *unit;
};
#define WORDS -1

static void html_put_cell(FILE *out, const struct column *c, const json_t *row)
{
	const json_t *v = json_object_get(row, c->key);
	bool failed = !strcmp(c->key, "status") && ctl_int(row, "failures") && strcmp(ctl_string(row, "status"), "Success") != 0;

	fputs(failed			   ? "<td class=\"bad\">"
	      : c->decimals != WORDS	   ? "<td class=\"n\">"
	      : json_string_length(v) > 20 ? "<td class=\"long\">"
					   : "<td>",
	      out);
	if (json_is_number(v))
		fprintf(out, "%.*f%s", c->decimals, json_number_value(v) * c->scale, c->unit);
	else
		markup_breakable(out, c->decimals == WORDS ? ctl_string(row, c->key) : "N/A");
	fputs("</td>", out);
}

static void put_table(FILE *out, const char *id, const struct column *columns, size_t n, const json_t *rows)
{
	if (json_array_size(rows) == 0) {
		fputs("<p>None.</p>\n", out);
		return;
	}
	fputs("<div>\n", out);
	if (json_array_size(rows) > SHOWN)
		fprintf(out, "<input type=\"checkbox\" id=\"all-%s\"> <label for=\"all-%s\">all %zu</label>\n", id, id,
			json_array_size(rows));
	fprintf(out, "<div class=\"scroll\"><table id=\"%s\">\n<tr>", id);
	for (size_t k = 0; k < n; k++)
		fprintf(out, "<th%s>%s</th>", columns[k].decimals == WORDS ? "" : " class=\"n\"", columns[k].title);
	fputs("</tr>\n", out);
	for (size_t i = 0; i < json_array_size(rows); i++) {
		fputs(i < SHOWN ? "<tr>" : "<tr class=\"more\">", out);
		for (size_t k = 0; k < n; k++)
			html_put_cell(out, &columns[k], json_array_get(rows, i));
		fputs("</tr>\n", out);
	}
	fputs("</table></div></div>\n", out);
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
	for (size_t k = 0; k < n; k++) {
		double saved = ctl_real(all[k], "time_saved_s");

		fputs("<div class=\"row\"><span class=\"name\">", out);
		markup_end_of(out, ctl_string(all[k], "name"), 32);
		fprintf(out, "</span><span class=\"bar\"><i style=\"width: max(2px, %.1f%%)\"></i>%.3f s</span></div>\n",
			saved / ctl_real(all[0], "time_saved_s") * 80, saved);
	}
	free(all);
}

/* Those whose builds take longest first, then those that are used most. */
static int by_cost(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	double before = ctl_real(x, "init_s"), after = ctl_real(y, "init_s");

	if (before == after && ctl_int(x, "uses") == ctl_int(y, "uses"))
		return strcmp(ctl_string(x, "name"), ctl_string(y, "name"));
	if (before == after)
		return ctl_int(x, "uses") < ctl_int(y, "uses") ? 1 : -1;
	return before < after ? 1 : -1;
}

static json_t *order_by_cost(const json_t *fixtures)
{
	size_t n = json_array_size(fixtures);
	json_t **all = xcalloc(n + 1, sizeof(json_t *)), *list = json_array();

	for (size_t k = 0; k < n; k++)
		all[k] = json_array_get(fixtures, k);
	qsort(all, n, sizeof(json_t *), by_cost);
	for (size_t k = 0; k < n; k++)
		json_array_append(list, all[k]);
	free(all);
	return list;
}

/* The last of each, with what the builder said. */
static void put_failures(FILE *out, const json_t *events)
{
	json_t *last = json_object(), *e;
	const char *name;
	char when[32];
	size_t put = 0;

	for (size_t k = 0; k < json_array_size(events); k++) {
		e = json_array_get(events, k);
		if (!strcmp(ctl_string(e, "event"), "failed"))
			json_object_set(last, ctl_string(e, "name"), e);
	}
	if (json_object_size(last))
		fputs("<h2>Failed builds</h2>\n", out);
	json_object_foreach(last, name, e) {
		if (put++ == FAILURES_SHOWN)
			fprintf(out, "<details><summary>The other %zu</summary>\n", json_object_size(last) - FAILURES_SHOWN);
		fputs("<p><b class=\"bad\">", out);
		markup_text(out, name);
		fprintf(out, "</b> <span class=\"dim\">%s</span></p>\n<pre>", ctl_time(when, sizeof when, ctl_real(e, "time")));
		markup_text(out, ctl_string(e, "error"));
		fputs("</pre>\n", out);
	}
	fputs(put > FAILURES_SHOWN ? "</details>\n" : "", out);
	json_decref(last);
}

/* One of many boxes is nothing to look at before somebody asks for it. */
static void put_graph(FILE *out, const struct report_sources *s, size_t boxes)
{
	fputs("<h2>Dependencies</h2>\n", out);
	if (boxes > BOXES_MAX)
		fprintf(out, "<details><summary>A graph of %zu fixtures</summary>\n", boxes);
	fputs("<div class=\"scroll graph\">\n", out);
	graph_write_svg(out, s->list, s->status);
	fputs(boxes > BOXES_MAX ? "</div>\n</details>\n" : "</div>\n", out);
}

static void put_names(FILE *out, const char *title, const json_t *names)
{
	size_t n = json_array_size(names);

	fprintf(out, "<h3>%s</h3>\n<p>%s", title, n ? "" : "None.");
	for (size_t k = 0; k < n; k++) {
		if (k == SHOWN)
			fprintf(out, "</p>\n<details><summary>The other %zu</summary>\n<p>", n - SHOWN);
		fputs("<code>", out);
		markup_breakable(out, json_string_value(json_array_get(names, k)));
		fputs(k + 1 < n && k + 1 != SHOWN ? "</code>, " : "</code>", out);
	}
	fputs(n > SHOWN ? "</p>\n</details>\n" : "</p>\n", out);
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

static const struct column of_fixtures[] = {
	{ "Fixture Name", "name", WORDS, 0, "" },
	{ "Uses", "uses", 0, 1, "" },
	{ "Type", "type", WORDS, 0, "" },
	{ "Scope", "scope", WORDS, 0, "" },
	{ "Category", "category", WORDS, 0, "" },
	{ "Init Time (s)", "init_s", 3, 1, "" },
	{ "Memory Δ (MB)", "memory_mb", 1, 1, "" },
	{ "GPU Δ (MB)", "gpu_mb", 1, 1, "" },
	{ "Status", "status", WORDS, 0, "" },
	{ "Builds", "builds", 0, 1, "" },
	{ "Reuses", "reuses", 0, 1, "" },
	{ "Hit rate", "hit_rate", 1, 100, "%" },
	{ "Time saved (s)", "time_saved_s", 3, 1, "" },
};
static const struct column of_groups[2][4] = {
	{ { "Category", "category", WORDS, 0, "" },
	  { "Count", "count", 0, 1, "" },
	  { "Used", "used", 0, 1, "" },
	  { "Usage %", "usage_percent", 1, 1, "%" } },
	{ { "Scope", "scope", WORDS, 0, "" },
	  { "Count", "count", 0, 1, "" },
	  { "Used", "used", 0, 1, "" },
	  { "Usage %", "usage_percent", 1, 1, "%" } },
};
static const struct column of_clones[] = {
	{ "Fixture Name", "name", WORDS, 0, "" },
	{ "Given out", "given", 0, 1, "" },
	{ "Started", "started", 0, 1, "" },
	{ "For nobody", "wasted", 0, 1, "" },
	{ "Hand-out p50 (ms)", "hand_out_p50_s", 1, 1e3, "" },
	{ "p99 (ms)", "hand_out_p99_s", 1, 1e3, "" },
	{ "Start (ms)", "start_s", 1, 1e3, "" },
	{ "Saved (s)", "saved_s", 3, 1, "" },
};
static const struct column of_forks[] = {
	{ "Fixture Name", "name", WORDS, 0, "" },     { "Forks", "forks", 0, 1, "" },
	{ "Most at once", "most_at_once", 0, 1, "" }, { "Prepared in (s)", "prepare_s", 3, 1, "" },
	{ "Life p50 (s)", "life_p50_s", 3, 1, "" },   { "p99 (s)", "life_p99_s", 3, 1, "" },
	{ "Saved (s)", "saved_s", 3, 1, "" },
};
static const struct column of_causes[] = { { "Cause", "cause", WORDS, 0, "" }, { "Count", "count", 0, 1, "" } };
static const struct column of_changes[] = {
	{ "Test", "test", WORDS, 0, "" },      { "Fixture Name", "name", WORDS, 0, "" }, { "Scope", "scope", WORDS, 0, "" },
	{ "Times", "dirty_resets", 0, 1, "" }, { "Pages", "pages_changed", 0, 1, "" },
};
static const struct column of_culprits[] = {
	{ "Test", "test", WORDS, 0, "" }, { "Fixture Name", "name", WORDS, 0, "" },	  { "Line", "writer", WORDS, 0, "" },
	{ "Times", "times", 0, 1, "" },	  { "Tests after it", "victim_count", 0, 1, "" },
};

void report_write_html(FILE *out, const json_t *report, const struct report_sources *s)
{
	json_t *fixtures = order_by_cost(json_object_get(report, "fixtures"));
	const json_t *summary = json_object_get(report, "summary");

	put_head(out, report);
	put_tiles(out, report);
	put_failures(out, s->events);
	put_bars(out, fixtures);
	report_put_timeline(out, fixtures, s->events, SHOWN);
	put_graph(out, s, json_array_size(fixtures));
	fputs("<h2>Fixtures</h2>\n", out);
	put_table(out, "fixtures", of_fixtures, ELEMENTSOF(of_fixtures), fixtures);
	if (json_array_size(json_object_get(report, "clones"))) {
		fputs("<h2>Clones</h2>\n", out);
		put_table(out, "clones", of_clones, ELEMENTSOF(of_clones), json_object_get(report, "clones"));
	}
	if (json_array_size(json_object_get(report, "forks"))) {
		fputs("<h2>Forks</h2>\n", out);
		put_table(out, "forks", of_forks, ELEMENTSOF(of_forks), json_object_get(report, "forks"));
	}
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
	if (json_array_size(json_object_get(report, "culprits"))) {
		fputs("<h2>Who changed it first, and how many tests had it after that</h2>\n", out);
		put_table(out, "culprits", of_culprits, ELEMENTSOF(of_culprits), json_object_get(report, "culprits"));
	}
	fputs("<h2>Tests that changed a fixture (undone)</h2>\n", out);
	put_table(out, "changes", of_changes, ELEMENTSOF(of_changes), json_object_get(report, "changed_by"));
	fputs(foot, out);
	json_decref(fixtures);
}
