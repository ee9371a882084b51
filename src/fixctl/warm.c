/* SPDX-License-Identifier: MIT */
/* fixctl warm: builds fixtures before anybody waits for them. */
#include <fnmatch.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/history.h"
#include "fixctl/transfers.h"
#include "fixctl/warming.h"
#include "fixd.h"

static void warm_add_target(struct warming *w, char *name)
{
	w->names = xrealloc(w->names, (w->n + 1) * sizeof *w->names);
	w->names[w->n++] = name;
}

/* Every param of a fixture of scope session; the others are built when a test asks. */
static void warm_add_fixture(struct warming *w, const json_t *fixture, bool named)
{
	const json_t *params = json_object_get(fixture, "params");
	const char *name = ctl_string(fixture, "name"), *scope = ctl_string(fixture, "scope");

	if (!strcmp(ctl_string(fixture, "source"), "client")) {
		if (named)
			warming_skip(w, name, "the clients that use it build it");
		return;
	}
	if (strcmp(scope, "session") != 0) {
		if (named)
			warming_skip(w, name, "scope %s is built when a test asks", scope);
		return;
	}
	for (size_t k = 0; k < json_array_size(params); k++)
		warm_add_target(w, xasprintf("%s[%s]", name, json_string_value(json_array_get(params, k))));
	if (json_array_size(params) == 0)
		warm_add_target(w, xstrdup(name));
}

static bool add_named(struct warming *w, const json_t *fixtures, const char *pattern)
{
	const char *bracket = strchr(pattern, '[');
	bool found = false;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);
		const char *name = ctl_string(f, "name");

		if (bracket && strlen(name) == (size_t)(bracket - pattern) && !strncmp(name, pattern, strlen(name)))
			warm_add_target(w, xstrdup(pattern));
		else if (!fnmatch(pattern, name, 0))
			warm_add_fixture(w, f, true);
		else
			continue;
		found = true;
	}
	if (!found)
		ctl_unknown(w->f, pattern);
	return found;
}

static int warm_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "timeout", required_argument, NULL, 't' },
						 { "json", no_argument, NULL, 'j' },
						 { "wait-upload", no_argument, NULL, 'W' },
						 { NULL, 0, NULL, 0 } };
	struct warming w = { .timeout_ms = connection_timeout(), .out = stdout, .lines = true };
	struct history history = { 0 };
	const json_t *fixtures;
	json_t *list;
	int64_t timeout;
	uint64_t from = 0;
	bool wait_upload = false;
	int c, code, r;

	while ((c = getopt_long(argc, argv, "t:j", options, NULL)) >= 0) {
		if (c == 'j') {
			ctl->json = true;
			continue;
		}
		if (c == 'W') {
			wait_upload = true;
			continue;
		}
		if (c != 't')
			ctl_bad_option("warm");
		if (parse_duration(optarg, &timeout) < 0 || timeout == 0 || timeout > INT64_C(1000000) * NSEC_PER_SEC)
			ctl_misuse("warm", "--timeout %s: expected a number above 0 with ms, s, m or h", optarg);
		w.timeout_ms = (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	}
	w.json = ctl->json;
	w.f = ctl_open(ctl);
	code = ctl_query(w.f, WIRE_TYPE_list, "", &list);
	if (code)
		return code;
	fixtures = json_object_get(list, "fixtures");
	for (int i = optind; i < argc; i++)
		code = add_named(&w, fixtures, argv[i]) ? code : EXIT_REFUSED;
	for (size_t k = 0; optind == argc && k < json_array_size(fixtures); k++)
		warm_add_fixture(&w, json_array_get(fixtures, k), false);
	json_decref(list);
	/* Where it is told: before the answers to builds come in between. */
	if (!w.json && isatty(STDOUT_FILENO) && history_read(&history, w.f) == 0)
		w.history = &history;
	r = wait_upload ? transfers_begin(w.f, &from) : 0;
	if (r == 0)
		r = warming_run(&w);
	if (wait_upload) {
		int sent = transfers_wait(w.f, from);

		r = r ? r : sent;
	}
	history_deinit(&history);
	for (size_t i = 0; i < w.n; i++)
		free(w.names[i]);
	free(w.names);
	fixd_close(w.f);
	return code ? code : r;
}

const struct fixctl_command command_warm = {
	.name = "warm",
	.json = true,
	.run = warm_run,
	.summary = "build now what is not fresh",
	.help = "warm [--timeout D] [--wait-upload] [--json] [NAME-GLOB...]\n"
		"Builds the named fixtures of scope session, or all of them, unless they are fresh. One line each when it is\n"
		"done; on a terminal also what is being built.\n"
		"\n"
		"  -t, --timeout D  how long to wait for each (90s, 5m; default $FIXD_TIMEOUT or 60s)\n"
		"      --wait-upload  end only when all that goes to the remote is there\n"
		"  -j, --json       an object a line: name, state (ready, failed, building, skipped),\n"
		"                   built, seconds, error",
};
