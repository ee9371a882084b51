/* SPDX-License-Identifier: MIT */
/* fixctl status: the daemon, its sessions and their fixtures, as text or JSON. */
#include <errno.h>
#include <getopt.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/path.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/history.h"
#include "fixctl/instance.h"
#include "fixctl/openmetrics.h"
#include "fixctl/screen.h"
#include "fixctl/transfers.h"
#include "fixd.h"
#include "wire/wire.h"

enum format { FORMAT_TEXT, FORMAT_VERBOSE, FORMAT_TABLE, FORMAT_JSON, FORMAT_OPENMETRICS };

static void line_time(const char *label, const json_t *object, const char *key)
{
	char buf[32];

	if (json_is_number(json_object_get(object, key)))
		printf("%s%s\n", label, ctl_time(buf, sizeof buf, ctl_real(object, key)));
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat first, second;

	return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

/* The file of fixtures that is nearest to a directory, in it or above it as far as `root`; to be freed, or NULL. */
static char *nearest_config(const char *directory, const char *root)
{
	_cleanup_free_ char *up = xstrdup(directory);

	while (path_below(up, root)) {
		char *config = xasprintf("%s/fixd.ini", strcmp(up, "/") ? up : ""), *slash = strrchr(up, '/');

		if (access(config, F_OK) == 0)
			return config;
		free(config);
		if (!slash || slash == up)
			break;
		*slash = '\0';
	}
	return NULL;
}

/* Is it about other fixtures than those that this directory has? */
static void say_if_elsewhere(const json_t *d)
{
	const char *root = ctl_string(d, "root");
	_cleanup_free_ char *here = getcwd(NULL, 0), *config = NULL;

	if (!here || !*root)
		return;
	config = nearest_config(here, path_below(here, root) ? root : here);
	if (config && !is_same_file(config, ctl_string(d, "config")))
		printf("%sNot of this directory:%s its configuration is not %s\n", YELLOW, PLAIN, config);
	else if (!path_below(here, root))
		printf("%sNot of this directory:%s its root is %s\n", YELLOW, PLAIN, root);
}

static void print_daemon(const json_t *d)
{
	const struct passwd *user = getpwuid((uid_t)ctl_int(d, "uid"));
	char uptime[32], used[32], max[32];

	printf("%sDaemon%s\n======\n", BOLD, PLAIN);
	printf("PID: %lld\n", (long long)ctl_int(d, "pid"));
	printf("Version: %s\n", ctl_string(d, "version"));
	printf("Uptime: %s\n", format_age(uptime, sizeof uptime, (int64_t)(ctl_real(d, "uptime_s") * NSEC_PER_SEC)));
	printf("Socket: %s\n", ctl_string(d, "socket"));
	printf("User: %s (%lld)\n", user ? user->pw_name : "?", (long long)ctl_int(d, "uid"));
	printf("Config: %s\n", ctl_string(d, "config"));
	say_if_elsewhere(d);
	printf("IO: %s%s%s%s\n", ctl_string(d, "io"), *ctl_string(d, "io_reason") ? " (" : "", ctl_string(d, "io_reason"),
	       *ctl_string(d, "io_reason") ? ")" : "");
	if (*ctl_string(d, "unsandboxed"))
		printf("%sNamespaces:%s services with data or clones have none of their own: %s\n", YELLOW, PLAIN,
		       ctl_string(d, "unsandboxed"));
	printf("Memory: %s of %s\n", format_size(used, sizeof used, (uint64_t)ctl_int(d, "memory_bytes")),
	       format_size(max, sizeof max, (uint64_t)ctl_int(d, "memory_max")));
	printf("Connections: %lld\n", (long long)ctl_int(d, "connections"));
	printf("Hits: %lld  Misses: %lld  Failures: %lld  Evictions: %lld", (long long)ctl_int(d, "hits"), (long long)ctl_int(d, "misses"),
	       (long long)ctl_int(d, "failures"), (long long)ctl_int(d, "evictions"));
	if (ctl_int(d, "teardown_failures"))
		printf("  Failed teardowns: %lld", (long long)ctl_int(d, "teardown_failures"));
	fputs("\n\n", stdout);
}

#define PIDS_SHOWN 8

static void print_pids(const char *label, size_t count, const json_t *pids)
{
	size_t n = json_array_size(pids);

	printf("    %s: %zu", label, count);
	for (size_t k = 0; k < n && k < PIDS_SHOWN; k++)
		printf("%s%lld", k ? ", " : " (pid ", (long long)json_integer_value(json_array_get(pids, k)));
	puts(n > PIDS_SHOWN ? ", ...)" : n ? ")" : "");
}

static void print_image(const json_t *i)
{
	char age[32], size[32], build[32];

	printf("    Age: %s\n", format_age(age, sizeof age, (int64_t)(ctl_real(i, "age_s") * NSEC_PER_SEC)));
	line_time("    Created: ", i, "created");
	line_time("    Last used: ", i, "last_used");
	printf("    Reused: %lld times\n", (long long)ctl_int(i, "reused"));
	printf("    Generation: %lld\n", (long long)ctl_int(i, "generation"));
	printf("    Size: %s at 0x%llx\n", format_size(size, sizeof size, (uint64_t)ctl_int(i, "size")),
	       (unsigned long long)ctl_int(i, "address"));
	printf("    Digest: %s\n", ctl_string(i, "digest"));
	printf("    Build time: %s\n", format_duration(build, sizeof build, (int64_t)(ctl_real(i, "build_s") * NSEC_PER_SEC)));
	print_pids("Leases", (size_t)ctl_int(i, "leases"), json_object_get(i, "pids"));
	if (ctl_int(i, "service_pid") && !ctl_int(i, "port"))
		printf("    Template: pid %lld, directory %s\n", (long long)ctl_int(i, "service_pid"), ctl_string(i, "dir"));
	else if (ctl_int(i, "service_pid"))
		printf("    Service: pid %lld, port %lld, directory %s\n", (long long)ctl_int(i, "service_pid"),
		       (long long)ctl_int(i, "port"), ctl_string(i, "dir"));
}

/* A sentence of several lines stays under its label. */
static void print_indented(const char *label, const char *s)
{
	if (!*s)
		return;
	printf("    %s: ", label);
	for (; *s; s++) {
		putchar(*s);
		if (*s == '\n')
			fputs("      ", stdout);
	}
	putchar('\n');
}

static const char *status_duration_of(const json_t *o, const char *key, char buf[32])
{
	return format_duration(buf, 32, (int64_t)(ctl_real(o, key) * NSEC_PER_SEC));
}

static void print_clones(const json_t *i)
{
	const json_t *n = json_object_get(i, "clones");
	char p50[32], p99[32], start[32], saved[32];

	if (!n)
		return;
	printf("    Clones: %lld held, %lld ready, %lld starting; at most %lld at once; %lld were given out\n",
	       (long long)ctl_int(n, "held"), (long long)ctl_int(n, "ready"), (long long)ctl_int(n, "starting"),
	       (long long)ctl_int(n, "max"), (long long)ctl_int(n, "given"));
	if (ctl_int(n, "given"))
		printf("    Hand-out: p50 %s, p99 %s; a start takes %s; %s were saved; %lld of %lld started were for nobody\n",
		       status_duration_of(n, "hand_out_p50_s", p50), status_duration_of(n, "hand_out_p99_s", p99),
		       status_duration_of(n, "start_s", start), status_duration_of(n, "saved_s", saved), (long long)ctl_int(n, "wasted"),
		       (long long)ctl_int(n, "started"));
}

/* All that is known. */
static void status_print_instance(const json_t *i)
{
	const char *state = ctl_string(i, "state");
	_cleanup_free_ char *title = instance_title(i);

	printf("  %s%s%s\n", BOLD, title, PLAIN);
	printf("    State: %s%s%s (%s, scope %s)\n", instance_color(state), state, PLAIN, ctl_string(i, "source"), ctl_string(i, "scope"));
	print_clones(i);
	if (json_is_integer(json_object_get(i, "size")))
		print_image(i);
	print_indented("Last invalidation", ctl_string(i, "stale_cause"));
	print_indented("Error", ctl_string(i, "error"));
	print_indented("Teardown failed", ctl_string(i, "teardown_error"));
	putchar('\n');
}

static void print_active(const json_t *i)
{
	const char *state = ctl_string(i, "state"), *outlook = ctl_string(i, "outlook");
	_cleanup_free_ char *title = instance_title(i);
	char age[32];

	printf("  %s%s%s\n", BOLD, title, PLAIN);
	if (strcmp(state, "ready") != 0)
		printf("    State: %s%s%s%s%s\n", instance_color(state), state, PLAIN, *outlook ? " " : "", outlook);
	print_clones(i);
	if (json_is_integer(json_object_get(i, "size"))) {
		printf("    Age: %s\n", format_age(age, sizeof age, (int64_t)(ctl_real(i, "age_s") * NSEC_PER_SEC)));
		line_time("    Created: ", i, "created");
		printf("    Reused: %lld times\n", (long long)ctl_int(i, "reused"));
	}
	putchar('\n');
}

static void print_inactive(const json_t *instances)
{
	size_t shown = 0;

	for (size_t k = 0; k < json_array_size(instances); k++) {
		const json_t *i = json_array_get(instances, k);
		_cleanup_free_ char *title = instance_title(i), *why = instance_why(i);
		const char *state = ctl_string(i, "state");

		if (instance_is_active(i) || instance_is_clone(i))
			continue;
		if (shown++ == 0)
			puts("Not Active:");
		printf("  %s: %s%s%s%s%s\n", title, instance_color(state), state, PLAIN, *why ? ": " : "", why);
	}
	if (shown)
		putchar('\n');
}

/* Those that have not ended. */
static void print_runs(const json_t *runs)
{
	size_t shown = 0;

	for (size_t k = 0; k < json_array_size(runs); k++) {
		const json_t *r = json_array_get(runs, k), *pids = json_object_get(r, "pids");
		size_t uses = json_array_size(json_object_get(r, "uses"));

		if (json_is_number(json_object_get(r, "ended")))
			continue;
		if (shown++ == 0)
			puts("Active Runs:");
		printf("  %s\n", ctl_string(r, "id"));
		line_time("    Began: ", r, "began");
		print_pids("Members", json_array_size(pids), pids);
		printf("    Uses: %zu image%s\n\n", uses, uses == 1 ? "" : "s");
	}
}

static void status_print_instances(const json_t *instances, enum format format)
{
	size_t n = json_array_size(instances), active = 0;

	for (size_t k = 0; k < n; k++)
		active += format == FORMAT_VERBOSE || instance_is_active(json_array_get(instances, k));
	printf("Active Session Fixtures:%s\n", active ? "" : " none");
	for (size_t k = 0; k < n; k++) {
		const json_t *i = json_array_get(instances, k);

		if (format == FORMAT_VERBOSE)
			status_print_instance(i);
		else if (instance_is_active(i) && !instance_is_clone(i))
			print_active(i);
	}
	if (format != FORMAT_VERBOSE)
		print_inactive(instances);
}

static void print_session(const json_t *s, enum format format)
{
	const json_t *instances = json_object_get(s, "instances"), *max_age = json_object_get(s, "max_age_s");

	printf("%sSession Status%s\n==============\n", BOLD, PLAIN);
	printf("Session ID: %s\n", ctl_string(s, "id"));
	printf("Repo: %s\n", ctl_string(s, "root"));
	line_time("Created: ", s, "created");
	line_time("Last Run: ", s, "last_run");
	printf("Total Runs: %lld\n\n", (long long)ctl_int(s, "total_runs"));
	print_runs(json_object_get(s, "runs"));
	status_print_instances(instances, format);
	printf("Fixture Reuse: %s\n", json_is_true(json_object_get(s, "reuse")) ? "ENABLED" : "DISABLED");
	if (json_is_number(max_age))
		printf("Max Age: %.10g seconds\n", json_number_value(max_age));
	else
		puts("Max Age: none");
}

/* Of one session, that; otherwise also how the daemon is. */
static void print_text(const json_t *report, enum format format, bool one_session)
{
	const json_t *sessions = json_object_get(report, "sessions");

	if (!one_session)
		print_daemon(json_object_get(report, "daemon"));
	for (size_t k = 0; k < json_array_size(sessions); k++)
		print_session(json_array_get(sessions, k), format);
}

/* A line each. */
static void status_print_table(const json_t *report)
{
	const json_t *sessions = json_object_get(report, "sessions"), *instances;
	char age[32], size[32], build[32];

	printf("%-9s %10s %10s %10s %6s %6s  %s\n", "STATE", "AGE", "SIZE", "BUILD", "REUSED", "LEASES", "FIXTURE");
	for (size_t k = 0; k < json_array_size(sessions); k++) {
		instances = json_object_get(json_array_get(sessions, k), "instances");
		for (size_t n = 0; n < json_array_size(instances); n++) {
			const json_t *i = json_array_get(instances, n);
			bool image = json_is_integer(json_object_get(i, "size"));
			_cleanup_free_ char *title = instance_title(i), *why = instance_is_active(i) ? NULL : instance_why(i);

			printf("%-9s %10s %10s %10s %6lld %6lld  %s%s%s\n", ctl_string(i, "state"),
			       image ? format_age(age, sizeof age, (int64_t)(ctl_real(i, "age_s") * NSEC_PER_SEC)) : "-",
			       image ? format_size(size, sizeof size, (uint64_t)ctl_int(i, "size")) : "-",
			       image ? format_duration(build, sizeof build, (int64_t)(ctl_real(i, "build_s") * NSEC_PER_SEC)) : "-",
			       (long long)ctl_int(i, "reused"), (long long)ctl_int(i, "leases"), title, why && *why ? ": " : "",
			       why ? why : "");
		}
	}
}

/* What is on its way between it and the remote. */
static void print_transfers(const json_t *report)
{
	const json_t *all = transfers_of(report);

	for (size_t k = 0; k < json_array_size(all); k++) {
		_cleanup_free_ char *words = transfer_words(json_array_get(all, k));

		printf("%sRemote:%s %s\n", YELLOW, PLAIN, words);
	}
}

/* Above all else where the end does not fit into a terminal. */
static void print_building(const json_t *report)
{
	const json_t *sessions = json_object_get(report, "sessions");

	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *instances = json_object_get(json_array_get(sessions, s), "instances");

		for (size_t k = 0; k < json_array_size(instances); k++) {
			const json_t *i = json_array_get(instances, k);
			_cleanup_free_ char *title = instance_title(i);

			if (!strcmp(ctl_string(i, "state"), "building"))
				printf("%sBuilding:%s %s %s\n", YELLOW, PLAIN, title, ctl_string(i, "outlook"));
		}
	}
}

struct view {
	struct fixd *f;
	const char *pattern;
	enum format format;
	bool one_session, repeat;
	struct history history;
};

static int status_show(void *arg)
{
	struct view *v = arg;
	json_t *report = NULL;
	int code = ctl_query(v->f, WIRE_TYPE_status, v->pattern, &report);

	if (code == 0 && (v->format == FORMAT_TEXT || v->format == FORMAT_VERBOSE))
		code = history_annotate(&v->history, v->f, report);
	if (code) {
		json_decref(report);
		return code;
	}
	if (v->format == FORMAT_JSON)
		ctl_print_json(report);
	else if (v->format == FORMAT_OPENMETRICS)
		openmetrics_print(report);
	else if (v->format == FORMAT_TABLE)
		status_print_table(report);
	else if (v->repeat)
		print_building(report), print_transfers(report), print_text(report, v->format, v->one_session);
	else
		print_text(report, v->format, v->one_session);
	json_decref(report);
	return code;
}

static enum format status_parse_format(const char *s)
{
	static const char *const names[] = { "text", "verbose", "table", "json", "openmetrics" };

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		if (!strcmp(s, names[i]))
			return (enum format)i;
	}
	ctl_misuse("status", "--format=%s: expected one of text, verbose, table, json, openmetrics", s);
}

static int status_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "watch", no_argument, NULL, 'w' },
		{ "format", required_argument, NULL, 'f' },
		{ "json", no_argument, NULL, 'j' },
		{ "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 },
	};
	struct view v = { .pattern = "", .format = ctl->json ? FORMAT_JSON : FORMAT_TEXT, .one_session = ctl->session };
	int c, code;

	while ((c = getopt_long(argc, argv, "wjv", options, NULL)) >= 0) {
		switch (c) {
		case 'w':
			v.repeat = true;
			break;
		case 'f':
			v.format = status_parse_format(optarg);
			break;
		case 'j':
			v.format = FORMAT_JSON;
			break;
		case 'v':
			v.format = FORMAT_VERBOSE;
			break;
		default:
			ctl_bad_option("status");
		}
	}
	ctl_expect("status", argc, argv, 0, 1, NULL);
	/* Who asks for some wants to know all of them. */
	if (v.format == FORMAT_TEXT && optind < argc)
		v.format = FORMAT_VERBOSE;
	if (optind < argc)
		v.pattern = argv[optind];
	ctl->json = v.format == FORMAT_JSON || v.format == FORMAT_OPENMETRICS;
	v.f = ctl_open_to_show(ctl);
	code = v.repeat ? screen_watch(status_show, &v) : status_show(&v);
	history_deinit(&v.history);
	fixd_close(v.f);
	/* A definition without an image is shown as nothing; a name that is not defined is a mistake. */
	return code || optind == argc ? code : ctl_known(ctl, argv[optind]);
}

const struct fixctl_command command_status = {
	.name = "status",
	.json = true,
	.run = status_run,
	.summary = "the daemon, its session and the instances",
	.help = "status [--watch] [--format=text|verbose|table|json|openmetrics] [NAME]\n"
		"Shows the daemon, the session and all instances; or all that is known of those whose name matches the glob NAME.\n"
		"\n"
		"  -w, --watch    again every second, until interrupted\n"
		"  -v, --verbose  all that is known of each instance\n"
		"  -j, --json     the same as --format=json; the keys are in fixctl(1)\n"
		"      --format=  text (default), verbose, table (a line for each instance), json, or openmetrics for a metrics collector",
};
