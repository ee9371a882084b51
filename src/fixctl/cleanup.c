/* SPDX-License-Identifier: MIT */
/* fixctl cleanup: asks the daemon to give images up, and prints what it removed, what is still in use, and what failed. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixd.h"
#include "wire/wire.h"

static void print_list(const char *label, const json_t *list)
{
	printf("%s: %zu\n", label, json_array_size(list));
	for (size_t k = 0; k < json_array_size(list); k++) {
		fputs("  ", stdout);
		for (const char *s = json_string_value(json_array_get(list, k)); *s; s++)
			fputs(*s == '\n' ? "\n    " : (char[2]){ *s, '\0' }, stdout);
		putchar('\n');
	}
}

static void print_report(const json_t *r)
{
	char freed[32];

	print_list("Removed", json_object_get(r, "removed"));
	print_list("Kept (in use)", json_object_get(r, "kept"));
	print_list("Errors", json_object_get(r, "errors"));
	printf("Freed: %s\n", format_size(freed, sizeof freed, (uint64_t)ctl_int(r, "freed_bytes")));
}

static int ask(struct fixctl *ctl, struct wire_cleanup *q, const struct text *patterns)
{
	char body[sizeof *q + 4096];
	struct fixd *f;
	json_t *report;
	int code;
	size_t errors;

	q->patterns = (uint16_t)patterns->size;
	memcpy(body, q, sizeof *q);
	memcpy(body + sizeof *q, patterns->data, patterns->size);
	f = ctl_open_to_show(ctl);
	code = ctl_report(f, WIRE_TYPE_cleanup, body, sizeof *q + patterns->size, &report);
	fixd_close(f);
	if (code)
		return code;
	if (ctl->json)
		ctl_print_json(report);
	else
		print_report(report);
	errors = json_array_size(json_object_get(report, "errors"));
	json_decref(report);
	return errors ? EXIT_REFUSED : EXIT_SUCCESS;
}

static int cleanup_run(struct fixctl *ctl, int argc, char **argv)
{
	enum { OPT_ALL = 256, OPT_STALE, OPT_UNUSED, OPT_OLDER, OPT_FAILED, OPT_FORCE };
	static const struct option options[] = {
		{ "all", no_argument, NULL, OPT_ALL },	     { "stale", no_argument, NULL, OPT_STALE },
		{ "unused", no_argument, NULL, OPT_UNUSED }, { "older-than", required_argument, NULL, OPT_OLDER },
		{ "failed", no_argument, NULL, OPT_FAILED }, { "force", no_argument, NULL, OPT_FORCE },
		{ "json", no_argument, NULL, 'j' },	     { NULL, 0, NULL, 0 },
	};
	struct wire_cleanup q = { .older_than = -1 };
	_cleanup_text_ struct text patterns = { 0 };
	bool all = false;
	int c;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		switch (c) {
		case OPT_ALL:
			all = true;
			break;
		case OPT_STALE:
			q.flags |= WIRE_CLEANUP_STALE;
			break;
		case OPT_UNUSED:
			q.flags |= WIRE_CLEANUP_UNUSED;
			break;
		case OPT_OLDER:
			if (parse_duration(optarg, &q.older_than) < 0)
				ctl_misuse("cleanup", "--older-than %s: expected a number with ms, s, m or h", optarg);
			break;
		case OPT_FAILED:
			q.flags |= WIRE_CLEANUP_FAILED;
			break;
		case OPT_FORCE:
			q.flags |= WIRE_CLEANUP_FORCE;
			break;
		case 'j':
			ctl->json = true;
			break;
		default:
			ctl_bad_option("cleanup");
		}
	}
	for (int i = optind; i < argc; i++) {
		if (!*argv[i])
			ctl_misuse("cleanup", "a name is empty");
		text_printf(&patterns, "%s%s", i > optind ? "\n" : "", argv[i]);
	}
	if (patterns.size && all)
		ctl_misuse("cleanup", "either names or --all");
	if (patterns.size > 4096)
		ctl_misuse("cleanup", "too many names");
	if (!patterns.size && !all && !(q.flags & ~(unsigned)WIRE_CLEANUP_FORCE) && q.older_than < 0)
		ctl_misuse("cleanup", "what? names, or --all, --stale, --unused, --failed, --older-than");
	if (!patterns.size)
		text_puts(&patterns, "*");
	c = ask(ctl, &q, &patterns);
	for (int i = optind; i < argc && c == EXIT_SUCCESS; i++)
		c = ctl_known(ctl, argv[i]);
	return c;
}

const struct fixctl_command command_cleanup = {
	.name = "cleanup",
	.json = true,
	.run = cleanup_run,
	.summary = "give images up, so that they are built again",
	.help = "cleanup [OPTION...] [NAME-GLOB...]\n"
		"Gives up the images, and forgets the failures, of the named fixtures. What is in use is kept.\n"
		"Waits until what must be torn down has been; exit status 1 if that failed.\n"
		"\n"
		"      --all             of all fixtures\n"
		"      --stale           only what is too old or whose inputs have changed\n"
		"      --unused          only what nobody has attached since it was built\n"
		"      --failed          only failures\n"
		"      --older-than D    only what was built longer ago (30s, 10m, 2h)\n"
		"      --force           also what is in use; its holders keep their bytes\n"
		"  -j, --json            the report as JSON",
};
