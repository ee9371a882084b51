/* SPDX-License-Identifier: MIT */
/* The report as Markdown, from the object of report_make alone. */
#include <string.h>

#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/report.h"

#define UNUSED_SHOWN 10
#define VICTIMS_SHOWN 5
#define CHANGES_SHOWN 20

const char *report_number(char *buf, size_t n, const json_t *value, int decimals)
{
	if (!json_is_number(value))
		return "N/A";
	snprintf(buf, n, "%.*f", decimals, json_number_value(value));
	return buf;
}

/* In a cell nothing is a bar or a line end. */
static void markdown_put_cell(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '|')
			fputs("\\|", out);
		else
			putc(*s == '\n' ? ' ' : *s, out);
	}
}

static const json_t *markdown_fixture_named(const json_t *report, const char *name)
{
	const json_t *fixtures = json_object_get(report, "fixtures");

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		if (!strcmp(ctl_string(json_array_get(fixtures, k), "name"), name))
			return json_array_get(fixtures, k);
	}
	return NULL;
}

static void put_summary(FILE *out, const json_t *summary)
{
	static const char *const groups[][3] = { { "by_category", "Category", "category" }, { "by_scope", "Scope", "scope" } };
	char percent[32];

	fprintf(out, "## Summary Statistics\n\n- **Total Fixtures**: %lld\n- **Used Fixtures**: %lld (%s%%)\n- **Unused Fixtures**: %lld\n",
		(long long)ctl_int(summary, "total"), (long long)ctl_int(summary, "used"),
		report_number(percent, sizeof percent, json_object_get(summary, "used_percent"), 1), (long long)ctl_int(summary, "unused"));
	for (size_t g = 0; g < ELEMENTSOF(groups); g++) {
		const json_t *list = json_object_get(summary, groups[g][0]);

		fprintf(out, "\n### By %s\n\n| %s | Count | Used | Usage %% |\n|---|---|---|---|\n", groups[g][1], groups[g][1]);
		for (size_t k = 0; k < json_array_size(list); k++) {
			const json_t *row = json_array_get(list, k);

			fputs("| ", out);
			markdown_put_cell(out, ctl_string(row, groups[g][2]));
			fprintf(out, " | %lld | %lld | %.1f%% |\n", (long long)ctl_int(row, "count"), (long long)ctl_int(row, "used"),
				ctl_real(row, "usage_percent"));
		}
	}
}

static void put_fixtures(FILE *out, const json_t *fixtures)
{
	char init[32], memory[32], gpu[32];

	fputs("\n## Detailed Fixture Analysis\n\n"
	      "| Fixture Name | Uses | Type | Scope | Category | Init Time (s) | Memory Δ (MB) | GPU Δ (MB) | Status |\n"
	      "|---|---|---|---|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);

		fprintf(out, "| %s | %lld | %s | %s | ", ctl_string(f, "name"), (long long)ctl_int(f, "uses"), ctl_string(f, "type"),
			ctl_string(f, "scope"));
		markdown_put_cell(out, ctl_string(f, "category"));
		fprintf(out, " | %s | %s | %s | ", report_number(init, sizeof init, json_object_get(f, "init_s"), 3),
			report_number(memory, sizeof memory, json_object_get(f, "memory_mb"), 1),
			report_number(gpu, sizeof gpu, json_object_get(f, "gpu_mb"), 1));
		markdown_put_cell(out, ctl_string(f, "status"));
		fputs(" |\n", out);
	}
}

static void put_leaders(FILE *out, const json_t *report, const char *title, const char *names, const char *key, const char *unit,
			int decimals)
{
	const json_t *list = json_object_get(report, names);
	char number[32];

	fprintf(out, "\n### %s\n\n", title);
	for (size_t k = 0; k < json_array_size(list); k++) {
		const char *name = json_string_value(json_array_get(list, k));

		fprintf(out, "%zu. `%s` - %s%s\n", k + 1, name,
			report_number(number, sizeof number, json_object_get(markdown_fixture_named(report, name), key), decimals), unit);
	}
	if (json_array_size(list) == 0)
		fputs("None.\n", out);
}

static void put_sharing(FILE *out, const json_t *report)
{
	static const struct {
		const char *title, *key, *unit;
		int decimals;
		double scale;
	} lines[] = {
		{ "Attaches", "uses", "", 0, 1 },
		{ "Builds", "builds", "", 0, 1 },
		{ "Failed builds", "failures", "", 0, 1 },
		{ "Reuses", "reuses", "", 0, 1 },
		{ "Hit rate", "hit_rate", "%", 1, 100 },
		{ "Time saved", "time_saved_s", " s", 3, 1 },
		{ "Attach in the daemon, p50", "attach_p50_s", " µs", 1, 1e6 },
		{ "Attach in the daemon, p99", "attach_p99_s", " µs", 1, 1e6 },
		{ "Became stale", "stale", "", 0, 1 },
		{ "Evictions", "evictions", "", 0, 1 },
		{ "Failed teardowns", "teardown_failures", "", 0, 1 },
		{ "Resets of views", "resets", "", 0, 1 },
		{ "Of these, with changes", "dirty_resets", "", 0, 1 },
		{ "Pages changed before each of those", "pages_changed_per_dirty_reset", "", 1, 1 },
	};
	const json_t *sharing = json_object_get(report, "sharing");

	fputs("\n## Sharing\n\n| | |\n|---|---|\n", out);
	for (size_t k = 0; k < ELEMENTSOF(lines); k++) {
		const json_t *v = json_object_get(sharing, lines[k].key);

		fprintf(out, "| %s | ", lines[k].title);
		if (json_is_number(v))
			fprintf(out, "%.*f%s |\n", lines[k].decimals, json_number_value(v) * lines[k].scale, lines[k].unit);
		else
			fputs("N/A |\n", out);
	}
}

static void put_saved(FILE *out, const json_t *fixtures)
{
	fputs("\n### By Fixture\n\n| Fixture Name | Attaches | Builds | Reuses | Hit rate | Time saved (s) |\n|---|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);

		if (ctl_int(f, "uses") == 0)
			continue;
		fprintf(out, "| %s | %lld | %lld | %lld | %.1f%% | %.3f |\n", ctl_string(f, "name"), (long long)ctl_int(f, "uses"),
			(long long)ctl_int(f, "builds"), (long long)ctl_int(f, "reuses"), 100 * ctl_real(f, "hit_rate"),
			ctl_real(f, "time_saved_s"));
	}
}

static void put_clones(FILE *out, const json_t *clones)
{
	if (json_array_size(clones) == 0)
		return;
	fputs("\n### Clones\n\n| Fixture Name | Given out | Started | For nobody | Hand-out p50 (ms) | p99 (ms) | Start (ms) | Saved (s) |\n"
	      "|---|---|---|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(clones); k++) {
		const json_t *c = json_array_get(clones, k);

		fputs("| ", out);
		markdown_put_cell(out, ctl_string(c, "name"));
		fprintf(out, " | %lld | %lld | %lld | %.1f | %.1f | %.1f | %.3f |\n", (long long)ctl_int(c, "given"),
			(long long)ctl_int(c, "started"), (long long)ctl_int(c, "wasted"), 1e3 * ctl_real(c, "hand_out_p50_s"),
			1e3 * ctl_real(c, "hand_out_p99_s"), 1e3 * ctl_real(c, "start_s"), ctl_real(c, "saved_s"));
	}
}

static void put_forks(FILE *out, const json_t *forks)
{
	char prepare[32], p50[32], p99[32];

	if (json_array_size(forks) == 0)
		return;
	fputs("\n### Forks\n\n| Fixture Name | Forks | Most at once | Prepared in (s) | Life p50 (s) | p99 (s) | Saved (s) |\n"
	      "|---|---|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(forks); k++) {
		const json_t *f = json_array_get(forks, k);

		fputs("| ", out);
		markdown_put_cell(out, ctl_string(f, "name"));
		fprintf(out, " | %lld | %lld | %s | %s | %s | %.3f |\n", (long long)ctl_int(f, "forks"),
			(long long)ctl_int(f, "most_at_once"), report_number(prepare, sizeof prepare, json_object_get(f, "prepare_s"), 3),
			report_number(p50, sizeof p50, json_object_get(f, "life_p50_s"), 3),
			report_number(p99, sizeof p99, json_object_get(f, "life_p99_s"), 3), ctl_real(f, "saved_s"));
	}
}

static void put_causes(FILE *out, const json_t *causes)
{
	if (json_array_size(causes) == 0)
		return;
	fputs("\n### Why Images Became Stale\n\n| Cause | Count |\n|---|---|\n", out);
	for (size_t k = 0; k < json_array_size(causes); k++) {
		const json_t *c = json_array_get(causes, k);

		fputs("| ", out);
		markdown_put_cell(out, ctl_string(c, "cause"));
		fprintf(out, " | %lld |\n", (long long)ctl_int(c, "count"));
	}
}

static void put_changed(FILE *out, const json_t *changed)
{
	if (json_array_size(changed) == 0)
		return;
	fputs("\n### Tests That Changed a Fixture (Undone)\n\n| Test | Fixture Name | Scope | Times | Pages |\n|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(changed) && k < CHANGES_SHOWN; k++) {
		const json_t *c = json_array_get(changed, k);

		fputs("| ", out);
		markdown_put_cell(out, ctl_string(c, "test"));
		fprintf(out, " | %s | %s | %lld | %lld |\n", ctl_string(c, "name"), ctl_string(c, "scope"),
			(long long)ctl_int(c, "dirty_resets"), (long long)ctl_int(c, "pages_changed"));
	}
	if (json_array_size(changed) > CHANGES_SHOWN)
		fprintf(out, "\n... and %zu more\n", json_array_size(changed) - CHANGES_SHOWN);
}

static void put_victims(FILE *out, const json_t *c)
{
	const json_t *victims = json_object_get(c, "victims");
	size_t n = json_array_size(victims) < VICTIMS_SHOWN ? json_array_size(victims) : VICTIMS_SHOWN;
	long long more = (long long)ctl_int(c, "victim_count") - (long long)n;

	for (size_t k = 0; k < n; k++) {
		fputs(k ? ", " : "", out);
		markdown_put_cell(out, json_string_value(json_array_get(victims, k)));
	}
	if (more > 0)
		fprintf(out, ", and %lld more", more);
}

static void put_culprits(FILE *out, const json_t *culprits)
{
	if (json_array_size(culprits) == 0)
		return;
	fputs("\n### Who Changed It First, and Who Had It After That\n\n| Test | Fixture Name | Line | Times | Tests After It |\n|---|---|---|---|---|\n",
	      out);
	for (size_t k = 0; k < json_array_size(culprits) && k < CHANGES_SHOWN; k++) {
		const json_t *c = json_array_get(culprits, k);

		fputs("| ", out);
		markdown_put_cell(out, ctl_string(c, "test"));
		fprintf(out, " | %s | ", ctl_string(c, "name"));
		markdown_put_cell(out, ctl_string(c, "writer"));
		fprintf(out, " | %lld | ", (long long)ctl_int(c, "times"));
		put_victims(out, c);
		fputs(" |\n", out);
	}
	if (json_array_size(culprits) > CHANGES_SHOWN)
		fprintf(out, "\n... and %zu more\n", json_array_size(culprits) - CHANGES_SHOWN);
}

static void put_recommendations(FILE *out, const json_t *report)
{
	const json_t *impact = json_object_get(report, "high_impact"), *unused = json_object_get(report, "unused");
	size_t n = json_array_size(unused);

	fputs("\n## Recommendations\n\n### High-Impact Optimization Targets\n\n", out);
	for (size_t k = 0; k < json_array_size(impact); k++) {
		const char *name = json_string_value(json_array_get(impact, k));

		fprintf(out, "- `%s` (%lld uses)\n", name, (long long)ctl_int(markdown_fixture_named(report, name), "uses"));
	}
	if (json_array_size(impact) == 0)
		fputs("None: no fixture of scope session was used three times.\n", out);
	fputs("\n### Unused Fixtures (Consider for Removal)\n\n", out);
	for (size_t k = 0; k < n && k < UNUSED_SHOWN; k++)
		fprintf(out, "- `%s`\n", json_string_value(json_array_get(unused, k)));
	if (n > UNUSED_SHOWN)
		fprintf(out, "- ... and %zu more\n", n - UNUSED_SHOWN);
	if (n == 0)
		fputs("None.\n", out);
}

void report_write_markdown(FILE *out, const json_t *report)
{
	char when[64];

	fprintf(out, "# Fixture Report\n\n- **Generated**: %s\n", ctl_time(when, sizeof when, ctl_real(report, "generated")));
	fprintf(out, "- **Root**: %s\n- **fixd**: %s\n", ctl_string(report, "root"), ctl_string(report, "version"));
	fprintf(out, "- **Total Fixtures Analyzed**: %lld\n", (long long)ctl_int(json_object_get(report, "summary"), "total"));
	if (json_is_number(json_object_get(report, "first_event")))
		fprintf(out, "- **Events**: %lld since %s%s\n", (long long)ctl_int(report, "events"),
			ctl_time(when, sizeof when, ctl_real(report, "first_event")),
			json_is_true(json_object_get(report, "lost")) ? " (there were older ones, which are not known any more)" : "");
	putc('\n', out);
	put_summary(out, json_object_get(report, "summary"));
	put_fixtures(out, json_object_get(report, "fixtures"));
	fputs("\n## Performance Insights\n", out);
	put_leaders(out, report, "Slowest Initialization (Top 5)", "slowest", "init_s", " s", 3);
	put_leaders(out, report, "Most Memory Intensive (Top 5)", "most_memory", "memory_mb", " MB", 1);
	put_sharing(out, report);
	put_saved(out, json_object_get(report, "fixtures"));
	put_clones(out, json_object_get(report, "clones"));
	put_forks(out, json_object_get(report, "forks"));
	put_causes(out, json_object_get(report, "stale_causes"));
	put_changed(out, json_object_get(report, "changed_by"));
	put_culprits(out, json_object_get(report, "culprits"));
	put_recommendations(out, report);
}
