/* SPDX-License-Identifier: MIT */
/* fixctl list: the definitions of fixtures that match a pattern, as the daemon knows them. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "fixctl/fixctl.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "wire/wire.h"

static void print_joined(const char *label, const json_t *list)
{
	if (json_array_size(list) == 0)
		return;
	printf("    %s: ", label);
	for (size_t k = 0; k < json_array_size(list); k++)
		printf("%s%s", k ? ", " : "", json_string_value(json_array_get(list, k)));
	putchar('\n');
}

static void print_lines(const char *s)
{
	for (; *s; s += strcspn(s, "\n"), s += *s == '\n')
		printf("    %.*s\n", (int)strcspn(s, "\n"), s);
}

/* One line, on a terminal no wider than that: name, [scope], where it is defined, and what it is. */
static void print_line(const json_t *f, const char *doc)
{
	const char *name = ctl_string(f, "name");
	size_t width = terminal_width(), taken = terminal_columns(name);
	_cleanup_free_ char *rest = NULL, *fitting = NULL, *fitting_name = terminal_fit_name(name, width);
	char line[24] = "";

	/* What clients registered is in no file. */
	if (ctl_int(f, "line"))
		snprintf(line, sizeof line, ":%lld", (long long)ctl_int(f, "line"));
	rest = xasprintf(" [%s] %s%s%s%s", ctl_string(f, "scope"), ctl_string(f, "file"), line, *doc ? "  " : "", doc);
	fitting = width && taken >= width ? xstrdup("") : terminal_fit(rest, width ? width - taken : 0);
	printf("%s%s%s%s\n", BOLD, fitting_name, PLAIN, fitting);
}

static void print_fixture(const json_t *f, bool verbose)
{
	const char *doc = ctl_string(f, "doc");

	print_line(f, verbose ? "" : doc);
	if (!verbose)
		return;
	print_lines(doc);
	printf("    source: %s\n", ctl_string(f, "source"));
	print_joined("params", json_object_get(f, "params"));
	print_joined("depends", json_object_get(f, "depends"));
	print_lines(ctl_string(f, "policy"));
}

static int list_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "verbose", no_argument, NULL, 'v' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	bool verbose = false;
	json_t *report;
	const json_t *all;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "vj", options, NULL)) >= 0) {
		if (c == 'v')
			verbose = true;
		else if (c == 'j')
			ctl->json = true;
		else
			ctl_bad_option("list");
	}
	ctl_expect("list", argc, argv, 0, 1, NULL);
	f = ctl_open_to_show(ctl);
	code = ctl_query(f, WIRE_TYPE_list, optind < argc ? argv[optind] : "", &report);
	if (code) {
		fixd_close(f);
		return code;
	}
	all = json_object_get(report, "fixtures");
	if (ctl->json)
		ctl_print_json(all);
	for (size_t k = 0; !ctl->json && k < json_array_size(all); k++)
		print_fixture(json_array_get(all, k), verbose);
	if (optind < argc && json_array_size(all) == 0)
		code = ctl_unknown(f, argv[optind]);
	fixd_close(f);
	json_decref(report);
	return code;
}

const struct fixctl_command command_list = {
	.name = "list",
	.json = true,
	.run = list_run,
	.summary = "the definitions of fixtures",
	.help = "list [-v] [NAME]\n"
		"Lists the fixtures: name, [scope], where they are defined, first line of their doc.\n"
		"\n"
		"  -v, --verbose  all of the doc, params, dependencies and policy\n"
		"  -j, --json     as JSON",
};
