/* SPDX-License-Identifier: MIT */
#include <errno.h>
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
#include "fixd.h"

#define REDRAW_MS 200
/* Requests on their way at once; the daemon bounds them, too. */
#define WINDOW 64

struct target {
	char *name; /* name or name[param] */
	uint64_t id;
	int64_t started;
	bool done;
};

struct warming {
	struct fixd *f;
	struct target *all;
	size_t n, sent, done;
	int timeout_ms;
	bool progress; /* standard output is a terminal */
	int code;
};

static void add_target(struct warming *w, char *name)
{
	w->all = xrealloc(w->all, (w->n + 1) * sizeof *w->all);
	w->all[w->n++] = (struct target){ .name = name };
}

/* Every param of a fixture of scope session; the others are built when a test asks. */
static void add_fixture(struct warming *w, const json_t *fixture, bool named)
{
	const json_t *params = json_object_get(fixture, "params");
	const char *name = ctl_string(fixture, "name"), *scope = ctl_string(fixture, "scope");

	if (strcmp(scope, "session") != 0) {
		if (named)
			printf("%s: skipped, scope %s is built when a test asks\n", name, scope);
		return;
	}
	for (size_t k = 0; k < json_array_size(params); k++)
		add_target(w, xasprintf("%s[%s]", name, json_string_value(json_array_get(params, k))));
	if (json_array_size(params) == 0)
		add_target(w, xstrdup(name));
}

static void add_named(struct warming *w, const json_t *fixtures, const char *pattern)
{
	const char *bracket = strchr(pattern, '[');
	bool found = false;

	for (size_t k = 0; k < json_array_size(fixtures); k++) {
		const json_t *f = json_array_get(fixtures, k);
		const char *name = ctl_string(f, "name");

		if (bracket && strlen(name) == (size_t)(bracket - pattern) && !strncmp(name, pattern, strlen(name)))
			add_target(w, xstrdup(pattern));
		else if (!fnmatch(pattern, name, 0))
			add_fixture(w, f, true);
		else
			continue;
		found = true;
	}
	if (!found) {
		fprintf(stderr, "fixctl: nothing is called '%s'\n", pattern);
		w->code = EXIT_REFUSED;
	}
}

static int send_target(struct warming *w, struct target *t)
{
	char body[WIRE_MESSAGE_MAX];
	ssize_t size = connection_attach_body(w->f, body, t->name, NULL, WIRE_ATTACH_WARM, w->timeout_ms, NULL, 0);

	if (size < 0)
		return (int)size;
	t->started = clock_now();
	return connection_send(w->f, WIRE_TYPE_attach, body, (size_t)size, &t->id);
}

static struct target *find_target(struct warming *w, uint64_t id)
{
	for (size_t i = 0; i < w->sent; i++) {
		if (w->all[i].id == id)
			return &w->all[i];
	}
	return NULL;
}

static void clear_line(const struct warming *w)
{
	if (w->progress)
		fputs("\r\033[K", stdout);
}

static void report(struct warming *w, struct target *t, int r, const struct reply *reply)
{
	char took[32];
	struct wire_attached head = { 0 };

	t->done = true;
	w->done++;
	clear_line(w);
	if (r < 0) {
		printf("%s: %sfailed%s\n", t->name, RED, PLAIN);
		fflush(stdout);
		r = ctl_failed(w->f, r);
		w->code = w->code ? w->code : r;
		return;
	}
	if (reply->size >= sizeof head)
		memcpy(&head, reply->body, sizeof head);
	if (head.flags & WIRE_ATTACHED_BUILT)
		printf("%s: %sready%s after %s\n", t->name, GREEN, PLAIN, format_duration(took, sizeof took, clock_now() - t->started));
	else
		printf("%s: %sready%s\n", t->name, GREEN, PLAIN);
	fflush(stdout);
}

/* One line that is drawn again: how many, and what is being waited for. */
static void draw(struct warming *w)
{
	const struct target *oldest = NULL;
	char since[32];

	for (size_t i = 0; i < w->sent && !oldest; i++) {
		if (!w->all[i].done)
			oldest = &w->all[i];
	}
	if (!w->progress || !oldest)
		return;
	printf("\r\033[K%zu of %zu, building %s, %s", w->done, w->n, oldest->name,
	       format_duration(since, sizeof since, clock_now() - oldest->started));
	fflush(stdout);
}

/* The daemon answers every request in time, if only that it took too long. */
static bool overdue(const struct warming *w)
{
	for (size_t i = 0; i < w->sent; i++) {
		if (!w->all[i].done)
			return clock_now() - w->all[i].started > (w->timeout_ms + INT64_C(5000)) * NSEC_PER_MSEC;
	}
	return false;
}

/* Takes one answer, or redraws. 0, or -errno when the daemon is lost. */
static int take_answer(struct warming *w)
{
	struct reply reply = { .wanted = 0 };
	struct target *t;
	uint64_t id = 0;
	/* The daemon answers in time by itself; a terminal is redrawn meanwhile. */
	int r = connection_receive(w->f, w->progress ? REDRAW_MS : w->timeout_ms + 5000, &id, &reply);

	if (id == 0 && r == -ETIMEDOUT && w->progress && !overdue(w)) {
		draw(w);
		return 0;
	}
	if (id == 0)
		return r;
	t = find_target(w, id);
	if (t && r == -ENOKEY && connection_learn_env(w->f, t->name))
		return send_target(w, t);
	if (t)
		report(w, t, r, &reply);
	if (r == 0)
		reply_close(&reply);
	return 0;
}

static int warm_all(struct warming *w)
{
	int r = 0;

	while (r == 0 && w->done < w->n) {
		while (r == 0 && w->sent < w->n && w->sent - w->done < WINDOW)
			r = send_target(w, &w->all[w->sent++]);
		if (r == 0)
			r = take_answer(w);
	}
	clear_line(w);
	return r < 0 ? ctl_failed(w->f, r) : w->code;
}

static int run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "timeout", required_argument, NULL, 't' }, { NULL, 0, NULL, 0 } };
	struct warming w = { .timeout_ms = connection_timeout(), .progress = isatty(STDOUT_FILENO) };
	const json_t *fixtures;
	json_t *list;
	int64_t timeout;
	int c;

	while ((c = getopt_long(argc, argv, "t:", options, NULL)) >= 0) {
		if (c != 't')
			ctl_bad_option("warm");
		if (parse_duration(optarg, &timeout) < 0 || timeout == 0 || timeout > INT64_C(1000000) * NSEC_PER_SEC)
			ctl_misuse("warm", "--timeout %s: allowed is a number with ms, s, m or h", optarg);
		w.timeout_ms = (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	}
	w.f = ctl_open(ctl);
	w.code = ctl_query(w.f, WIRE_TYPE_list, "", &list);
	if (w.code)
		return w.code;
	fixtures = json_object_get(list, "fixtures");
	for (int i = optind; i < argc; i++)
		add_named(&w, fixtures, argv[i]);
	for (size_t k = 0; optind == argc && k < json_array_size(fixtures); k++)
		add_fixture(&w, json_array_get(fixtures, k), false);
	json_decref(list);
	if (w.n)
		w.code = warm_all(&w);
	for (size_t i = 0; i < w.n; i++)
		free(w.all[i].name);
	free(w.all);
	fixd_close(w.f);
	return w.code;
}

const struct fixctl_command command_warm = {
	.name = "warm",
	.run = run,
	.summary = "build now what is not fresh",
	.help = "warm [--timeout D] [NAME-GLOB...]\n"
		"Builds the named fixtures of scope session, or all of them, unless they are fresh. One line each when it is\n"
		"done; on a terminal also what is being built.\n"
		"\n"
		"  -t, --timeout D  how long to wait for each (90s, 5m; default $FIXD_TIMEOUT or 60s)",
};
