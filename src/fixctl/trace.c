/* SPDX-License-Identifier: MIT */
/*
 * What happens, as it happens, in the form of pytest's --setup-show (its manual: "Handling test failures"; _pytest/setuponly.py): the
 * scope's letter, two spaces more for each narrower scope, and on SETUP the fixtures used.
 */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixd.h"
#include "wire/wire.h"

#define WAIT_MS 1000

static volatile sig_atomic_t interrupted;

static void trace_on_interrupt(int signal)
{
	(void)signal;
	interrupted = 1;
}

struct form {
	const char *event;
	const char *word; /* NULL: not shown but as JSON */
	void (*more)(const json_t *e);
};

static void print_seconds(const json_t *e, const char *key)
{
	char took[32];

	printf(", %s", format_duration(took, sizeof took, (int64_t)(ctl_real(e, key) * 1e9)));
}

static void more_of_setup(const json_t *e)
{
	const json_t *depends = json_object_get(e, "depends");
	size_t n = json_array_size(depends);
	char size[32];

	for (size_t k = 0; k < n; k++)
		printf("%s%s", k ? ", " : " (fixtures used: ", json_string_value(json_array_get(depends, k)));
	printf("%s  # %s", n ? ")" : "", format_size(size, sizeof size, (uint64_t)ctl_int(e, "size")));
	print_seconds(e, "build_s");
}

static void more_of_attach(const json_t *e)
{
	const char *test = ctl_string(e, "test");

	printf("  # pid %lld%s%s", (long long)ctl_int(e, "pid"), *test ? " " : "", test);
	if (json_is_true(json_object_get(e, "built")))
		print_seconds(e, "took_s");
}

static void print_pages(const json_t *e)
{
	long long n = ctl_int(e, "pages_changed");

	printf(", %lld page%s", n, n == 1 ? "" : "s");
}

static void more_of_detach(const json_t *e)
{
	printf("  # pid %lld", (long long)ctl_int(e, "pid"));
	print_seconds(e, "took_s");
	if (ctl_int(e, "pages_changed")) {
		print_pages(e);
		fputs(" changed", stdout);
	}
}

static void more_of_change(const json_t *e)
{
	printf("  # pid %lld %s", (long long)ctl_int(e, "pid"), ctl_string(e, "test"));
	print_pages(e);
}

static void more_of_use(const json_t *e)
{
	const char *writer = ctl_string(e, "writer");

	printf("  # pid %lld %s%s%s", (long long)ctl_int(e, "pid"), ctl_string(e, "test"), *writer ? ", changed at " : "", writer);
}

/* Of a sentence of several lines the first. */
static void print_sentence(const json_t *e, const char *key)
{
	const char *s = ctl_string(e, key);

	if (*s)
		printf("  # %.*s", (int)strcspn(s, "\n"), s);
}

static void more_of_failure(const json_t *e)
{
	print_sentence(e, "error");
}

static void more_of_stale(const json_t *e)
{
	print_sentence(e, "stale_cause");
}

static const struct form forms[] = {
	{ "build", "BUILD", NULL },
	{ "ready", "SETUP", more_of_setup },
	{ "failed", "FAILED", more_of_failure },
	{ "attach", "ATTACH", more_of_attach },
	{ "changed", "CHANGED", more_of_change },
	{ "used", "USED", more_of_use },
	{ "detach", "DETACH", more_of_detach },
	{ "stale", "STALE", more_of_stale },
	{ "reset", "RESET", NULL },
	{ "torn-down", "TEARDOWN", more_of_failure },
	{ "download", "DOWNLOAD", NULL },
	{ "downloaded", "DOWNLOADED", more_of_failure },
	{ "upload", "UPLOAD", NULL },
	{ "uploaded", "UPLOADED", more_of_failure },
};

static const char *trace_color_of(const char *event)
{
	static const char *const colors[][2] = { { "ready", "\033[32m" }, { "failed", "\033[31m" }, { "stale", "\033[33m" } };

	for (size_t k = 0; k < ELEMENTSOF(colors); k++) {
		if (!strcmp(colors[k][0], event))
			return ctl_color(colors[k][1]);
	}
	return "";
}

static int indent_of(const char *scope)
{
	static const char *const scopes[] = { "session", "package", "module", "class", "function" };

	for (size_t k = 0; k < ELEMENTSOF(scopes); k++) {
		if (!strcmp(scopes[k], scope))
			return 2 * (int)k;
	}
	return 8;
}

static void print_event(const json_t *e)
{
	const char *event = ctl_string(e, "event"), *scope = ctl_string(e, "scope");

	for (size_t k = 0; k < ELEMENTSOF(forms); k++) {
		const struct form *f = &forms[k];

		if (strcmp(f->event, event) != 0)
			continue;
		printf("%s%*s%-8s %c %s", trace_color_of(event), indent_of(scope), "", f->word, *scope ? *scope - 'a' + 'A' : '?',
		       ctl_string(e, "name"));
		if (f->more)
			f->more(e);
		printf("%s\n", *trace_color_of(event) ? PLAIN : "");
		return;
	}
	if (!strcmp(event, "run-began") || !strcmp(event, "run-ended"))
		printf("RUN %s %s\n", ctl_string(e, "run"), !strcmp(event, "run-began") ? "begins" : "has ended");
}

static bool is_wanted(const json_t *e, const char *run)
{
	return !run || !strcmp(ctl_string(e, "run"), run);
}

static void print_events(const json_t *events, const char *run, bool json)
{
	for (size_t k = 0; k < json_array_size(events); k++) {
		const json_t *e = json_array_get(events, k);

		if (!is_wanted(e, run))
			continue;
		if (json) {
			json_dumpf(e, stdout, JSON_PRESERVE_ORDER | JSON_COMPACT | JSON_REAL_PRECISION(16));
			putchar('\n');
		} else {
			print_event(e);
		}
	}
	fflush(stdout);
}

/* Behind what there is already. */
static int skip(struct fixd *f, uint64_t *from)
{
	bool more = true;
	int code = 0;

	while (code == 0 && more) {
		json_t *report = NULL;

		code = ctl_events(f, from, 0, &report);
		more = json_is_true(json_object_get(report, "more"));
		json_decref(report);
	}
	return code;
}

/* A pipe whose other end is closed: there may never be an event to be told of that by. */
static bool nobody_reads(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO };

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP));
}

static int trace(struct fixd *f, const char *run, bool json, bool past, bool follow)
{
	uint64_t from = 0;
	int code = past ? 0 : skip(f, &from);
	bool more = true;

	while (code == 0 && !interrupted && (follow || more) && !ferror(stdout) && !nobody_reads()) {
		json_t *report = NULL;

		code = ctl_events(f, &from, follow ? WAIT_MS : 0, &report);
		if (json_is_true(json_object_get(report, "lost")))
			fputs("fixctl: older events are not known any more\n", stderr);
		print_events(json_object_get(report, "events"), run, json);
		more = json_is_true(json_object_get(report, "more"));
		json_decref(report);
	}
	return interrupted ? 0 : code;
}

static int trace_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "run", required_argument, NULL, 'r' },
		{ "past", no_argument, NULL, 'p' },
		{ "once", no_argument, NULL, '1' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const struct sigaction on_signal = { .sa_handler = trace_on_interrupt };
	const char *run_id = NULL;
	bool past = false, follow = true;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "r:p1j", options, NULL)) >= 0) {
		switch (c) {
		case 'r':
			run_id = optarg;
			break;
		case 'p':
			past = true;
			break;
		case '1':
			past = true;
			follow = false;
			break;
		case 'j':
			ctl->json = true;
			break;
		default:
			ctl_bad_option("trace");
		}
	}
	ctl_expect("trace", argc, argv, 0, 0, NULL);
	f = ctl_open_to_show(ctl);
	sigaction(SIGINT, &on_signal, NULL);
	sigaction(SIGTERM, &on_signal, NULL);
	code = trace(f, run_id, ctl->json, past, follow);
	fixd_close(f);
	return code;
}

const struct fixctl_command command_trace = {
	.name = "trace",
	.json = true,
	.run = trace_run,
	.summary = "what happens, as it happens",
	.help = "trace [--past | --once] [--run ID] [--json]\n"
		"Shows builds, attaches and all else that happens to fixtures, in the form of pytest's --setup-show, until interrupted.\n"
		"\n"
		"  -p, --past    first what has happened already, as far as it is still known\n"
		"  -1, --once    only that\n"
		"  -r, --run ID  only what members of that run attach\n"
		"  -j, --json    an object for each event, one a line; the keys are in fixctl(1)",
};
