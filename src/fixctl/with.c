/* SPDX-License-Identifier: MIT */
/* fixctl with: fixtures that are held for the life of a command. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/run.h"
#include "fixd.h"

#define VALUE_MAX (64 << 10)

struct with {
	struct fixd *f;
	const char *scope_key;
	int timeout_ms;
	struct shown *all;
	size_t n;
	char **argv; /* the command */
};

/* What a fixture is made by; "" when nothing is called so, which attaching it tells better. */
static int find_source(struct with *w, struct shown *x)
{
	json_t *report;
	int code = ctl_query(w->f, WIRE_TYPE_list, x->name, &report);

	if (code)
		return code;
	x->source = xstrdup(ctl_string(json_array_get(json_object_get(report, "fixtures"), 0), "source"));
	json_decref(report);
	return 0;
}

/*
 * Of a service where it is to be found, of a tree its directory, of others the name of a file with the bytes, which is there as long as
 * this process: many programs close what they do not know before they start another one. To be freed.
 */
static char *with_value_of(const struct shown *x)
{
	char *value;

	if (x->kind == RUN_TREE)
		return xstrdup(x->tree);
	if (strcmp(x->source, "service") != 0)
		return xasprintf("/proc/%d/fd/%d", (int)getpid(), x->fd);
	value = xcalloc(1, VALUE_MAX + 1);
	if (fd_pread_all(x->fd, value, x->size < VALUE_MAX ? x->size : VALUE_MAX, 0) < 0)
		*value = '\0';
	return value;
}

/* Before anything is built: what is wrong with the names costs no time. */
static void name_all(struct with *w, char **names, size_t n)
{
	w->all = xcalloc(n, sizeof *w->all);
	for (; w->n < n; w->n++) {
		struct shown *x = &w->all[w->n];

		*x = (struct shown){ .name = xstrdup(names[w->n]), .variable = shown_variable(names[w->n]), .fd = -1 };
		for (size_t k = 0; k < w->n; k++) {
			if (!strcmp(w->all[k].variable, x->variable))
				ctl_misuse("with", "'%s' and '%s' would both be $%s", w->all[k].name, x->name, x->variable);
		}
	}
}

static int hold(struct with *w, struct shown *x)
{
	_cleanup_free_ char *value = NULL;
	int code = find_source(w, x);

	if (code == 0)
		code = shown_hold(w->f, w->scope_key, w->timeout_ms, x);
	if (code)
		return code;
	value = with_value_of(x);
	return setenv(x->variable, value, 1) < 0 ? EXIT_REFUSED : 0;
}

static int start_and_follow(struct with *w, struct follow *f)
{
	pid_t parent = getpid(), pid;
	int code;

	follow_begin(f);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* As if it had been killed itself. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(EXIT_REFUSED);
		follow_restore(f);
		_exit(follow_execute(f, w->argv));
	}
	if (pid < 0)
		code = (fprintf(stderr, "fixctl: the command cannot be started: %s\n", strerror(errno)), EXIT_REFUSED);
	else
		code = follow(f, pid, NULL, NULL);
	sigprocmask(SIG_SETMASK, &f->mask, NULL);
	return code;
}

/* Returns where the command begins. */
static int with_parse(struct with *w, int argc, char **argv)
{
	static const struct option options[] = {
		{ "scope-key", required_argument, NULL, 'k' },
		{ "timeout", required_argument, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	int64_t timeout;
	int c, dashes;

	while ((c = getopt_long(argc, argv, "+k:t:", options, NULL)) >= 0) {
		if (c == 'k')
			w->scope_key = optarg;
		else if (c != 't')
			ctl_bad_option("with");
		else if (parse_duration(optarg, &timeout) < 0 || timeout <= 0 || timeout > INT64_C(1000000) * NSEC_PER_SEC)
			ctl_misuse("with", "--timeout %s: expected a number above 0 with ms, s, m or h", optarg);
		else
			w->timeout_ms = (int)((timeout + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC);
	}
	for (dashes = optind; dashes < argc && strcmp(argv[dashes], "--") != 0; dashes++)
		;
	if (dashes == optind || !strcmp(argv[optind - 1], "--"))
		ctl_misuse("with", "a NAME is missing");
	if (dashes + 1 >= argc)
		ctl_misuse("with", "'-- COMMAND' is missing");
	w->argv = argv + dashes + 1;
	return dashes;
}

static int with_run(struct fixctl *ctl, int argc, char **argv)
{
	struct with w = { .timeout_ms = connection_timeout() };
	const char *disabled = getenv("FIXD_DISABLE");
	struct follow f;
	int dashes = with_parse(&w, argc, argv), code = 0;

	follow_init(&f);
	if (disabled && !strcmp(disabled, "1"))
		return follow_execute(&f, w.argv);
	name_all(&w, argv + optind, (size_t)(dashes - optind));
	w.f = ctl_open(ctl);
	for (size_t k = 0; code == 0 && k < w.n; k++)
		code = hold(&w, &w.all[k]);
	if (code == 0)
		code = setenv("FIXD_SOCKET", w.f->path, 1) < 0 ? EXIT_REFUSED : start_and_follow(&w, &f);
	fixd_close(w.f);
	for (size_t k = 0; k < w.n; k++)
		shown_deinit(&w.all[k]);
	free(w.all);
	return code;
}

const struct fixctl_command command_with = {
	.name = "with",
	.run = with_run,
	.summary = "hold fixtures for the life of a command",
	.help = "with [OPTION...] NAME... -- COMMAND [ARGUMENT...]\n"
		"Attaches the fixtures NAME or NAME[PARAM], and lets go of them when COMMAND has ended. $FIXD_FIXTURE_<NAME> is what\n"
		"a service says of where it is, the directory of a tree, or a file with the bytes. Of what has clones, COMMAND has\n"
		"one of its own. Exits as COMMAND does: 128+N for signal N, 126 or 127 if it cannot be started; 4 if a fixture\n"
		"cannot be built.\n"
		"\n"
		"  -k, --scope-key KEY  for fixtures of a narrower scope than session\n"
		"  -t, --timeout D      how long to wait for each (90s, 5m; default $FIXD_TIMEOUT or 60s)",
};
