/* SPDX-License-Identifier: MIT */
/*
 * fixctl explain: why a fixture was built or became stale, what it depends on and what is watched, and what an attach would do now. All of
 * it is what status, list and the log of events say; it is only put together here.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/history.h"
#include "fixctl/instance.h"
#include "fixctl/key_parts.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "wire/wire.h"

/* So many of the newest events are shown. */
#define HISTORY_MAX 15
#define FILES_MAX 8

struct explanation {
	struct fixd *f;
	json_t *definition; /* or NULL */
	json_t *all;	    /* the status of everything, for what it depends on */
	struct history history;
};

static const char *explain_duration_of(double seconds, char buf[32])
{
	return format_duration(buf, 32, (int64_t)(seconds * NSEC_PER_SEC));
}

/* Of the policy of a definition, as list has it: one value; to be freed. "": it is not set. */
static char *policy_value(const json_t *definition, const char *key)
{
	const char *line = ctl_string(definition, "policy");
	size_t n = strlen(key);

	for (; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		if (!strncmp(line, key, n) && !strncmp(line + n, " = ", 3))
			return xstrndup(line + n + 3, strcspn(line + n + 3, "\n"));
	}
	return xstrdup("");
}

/* The instance of that title in any session, or NULL. */
static const json_t *find_instance(const json_t *status, const char *title)
{
	const json_t *sessions = json_object_get(status, "sessions");

	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *instances = json_object_get(json_array_get(sessions, s), "instances");

		for (size_t k = 0; k < json_array_size(instances); k++) {
			_cleanup_free_ char *other = instance_title(json_array_get(instances, k));

			if (!strcmp(other, title))
				return json_array_get(instances, k);
		}
	}
	return NULL;
}

static const char *state_of_dependency(const struct explanation *x, const char *title)
{
	const json_t *i = find_instance(x->all, title);

	return i ? ctl_string(i, "state") : "absent";
}

/* What must be built before it can be; to be freed, "" for nothing. */
static char *first_of_all(const struct explanation *x, const json_t *depends)
{
	struct text t = { 0 };

	text_puts(&t, "");
	for (size_t k = 0; k < json_array_size(depends); k++) {
		const char *title = json_string_value(json_array_get(depends, k)), *state = state_of_dependency(x, title);

		if (strcmp(state, "ready") != 0)
			text_printf(&t, "%s%s (%s)", t.size ? ", " : ", after ", title, state);
	}
	return text_steal(&t);
}

/* One that has failed and would again; NULL: there is none. */
static const char *failed_dependency(const struct explanation *x, const json_t *depends)
{
	for (size_t k = 0; k < json_array_size(depends); k++) {
		const char *title = json_string_value(json_array_get(depends, k));
		const json_t *i = find_instance(x->all, title);

		if (i && !strcmp(ctl_string(i, "state"), "failed") && !*ctl_string(i, "retry_cause"))
			return title;
	}
	return NULL;
}

static char *builds(const struct explanation *x, const json_t *depends, const char *why, double took)
{
	_cleanup_free_ char *before = first_of_all(x, depends);
	const char *failed = failed_dependency(x, depends);
	char buf[32];

	if (failed)
		return xasprintf("%s: it would fail at once, since %s has failed: see 'fixctl explain %s'", why, failed, failed);
	if (!strcmp(ctl_string(x->definition, "source"), "client"))
		return xasprintf("%s: the client that asks first builds it", why);
	if (took < 0)
		return xasprintf("%s: it would be built%s", why, before);
	return xasprintf("%s: it would be built%s, which took %s the last time", why, before, explain_duration_of(took, buf));
}

static char *gives(const struct explanation *x, const json_t *i)
{
	_cleanup_free_ char *check = policy_value(x->definition, "check"), *before = first_of_all(x, json_object_get(i, "depends")),
			    *exclusive = policy_value(x->definition, "exclusive"), *reset = policy_value(x->definition, "reset");

	if (!strcmp(exclusive, "yes") && ctl_int(i, "leases"))
		return xasprintf("it would wait until its holder, pid %lld, lets go",
				 (long long)json_integer_value(json_array_get(json_object_get(i, "pids"), 0)));
	/* Whether it is stale, too, turns out when these are there. */
	if (*before)
		return xasprintf("%s: it would be given generation %lld if that turns out as it was, and be built otherwise",
				 before + strlen(", "), (long long)ctl_int(i, "generation"));
	return xasprintf("it would be given generation %lld %s%s", (long long)ctl_int(i, "generation"),
			 *reset ? "when what was done with it has been reset" : "at once", *check ? ", if its check succeeds" : "");
}

static char *fails(const struct explanation *x, const json_t *i)
{
	_cleanup_free_ char *retry = policy_value(x->definition, "retry-after");
	bool never = !*retry || !strcmp(retry, "none");

	return xasprintf("it would fail at once, until an input changes%s%s, or 'fixctl cleanup %s'",
			 never ? "" : ", retry-after passes: ", never ? "" : retry, ctl_string(i, "name"));
}

static char *hands_out(const json_t *i)
{
	const json_t *n = json_object_get(i, "clones");
	char buf[32];

	if (ctl_int(n, "ready") == 1)
		return xstrdup("it would be given the clone that is ready");
	if (ctl_int(n, "ready"))
		return xasprintf("it would be given one of %lld clones that are ready", (long long)ctl_int(n, "ready"));
	if (ctl_int(n, "held") >= ctl_int(n, "max"))
		return ctl_int(n, "max") == 1
			       ? xstrdup("the only clone is held: it would wait for its end")
			       : xasprintf("all %lld clones are held: it would wait for the end of one", (long long)ctl_int(n, "max"));
	return xasprintf("a clone would be started, which takes %s", explain_duration_of(ctl_real(n, "start_s"), buf));
}

static char *waits(const struct explanation *x, const char *session, const char *title)
{
	_cleanup_free_ char *outlook = history_outlook(&x->history, session, title);

	if (*outlook && history_began(&x->history, session, title) <= 0)
		return xasprintf("it would wait for the build, which begins %s", outlook);
	return xasprintf("it would wait for the build that is under way%s%s", *outlook ? ": " : "", outlook);
}

/* What an attach would do now; to be freed. */
static char *attach_now(const struct explanation *x, const char *session, const char *title, const json_t *i)
{
	double took = history_took(&x->history, session, title);
	const char *state = ctl_string(i, "state"), *cause = ctl_string(i, "stale_cause"), *retry = ctl_string(i, "retry_cause");
	const json_t *expires = json_object_get(i, "expires_s"), *depends = json_object_get(i, "depends");

	if (json_object_get(i, "clones") && strcmp(state, "failed") != 0)
		return hands_out(i);
	if (json_is_true(json_object_get(i, "ending")))
		return xstrdup("it would be built when the last one has been torn down, which goes on now");
	if (instance_is_clone(i) && ctl_int(i, "leases"))
		return xstrdup("it would be given another clone: this one is held, and ends with its holder");
	if (instance_is_clone(i) && !strcmp(state, "ready"))
		return xstrdup("this may be the clone that it would be given");
	if (!strcmp(state, "building"))
		return waits(x, session, title);
	if (!strcmp(state, "checking"))
		return xstrdup("it would wait for the check that is under way");
	if (!strcmp(state, "failed") && *retry)
		return builds(x, depends, retry, took);
	if (!strcmp(state, "failed"))
		return fails(x, i);
	if (!strcmp(state, "ready") && json_is_number(expires) && json_number_value(expires) < 0)
		return builds(x, depends, "it is too old", took);
	if (!strcmp(state, "ready"))
		return gives(x, i);
	return builds(x, depends, *cause ? cause : "there is none", took);
}

static char *event_more(const json_t *e)
{
	const char *event = ctl_string(e, "event"), *test = ctl_string(e, "test");
	char took[32], size[32];

	if (!strcmp(event, "ready"))
		return xasprintf("ready: generation %lld, %s, built in %s", (long long)ctl_int(e, "generation"),
				 format_size(size, sizeof size, (uint64_t)ctl_int(e, "size")),
				 explain_duration_of(ctl_real(e, "build_s"), took));
	if (!strcmp(event, "attach"))
		return xasprintf("given to pid %lld%s%s, which had waited %s", (long long)ctl_int(e, "pid"), *test ? " for " : "", test,
				 explain_duration_of(ctl_real(e, "took_s"), took));
	if (!strcmp(event, "stale"))
		return xasprintf("stale: %s", ctl_string(e, "stale_cause"));
	if (!strcmp(event, "downloaded") || !strcmp(event, "uploaded"))
		return xasprintf("%s: %s in %s%s%s", event, format_size(size, sizeof size, (uint64_t)ctl_int(e, "size")),
				 explain_duration_of(ctl_real(e, "took_s"), took), *ctl_string(e, "error") ? ", failed: " : "",
				 ctl_string(e, "error"));
	return xasprintf("%s%s%s", strcmp(event, "build") ? event : "build began", *ctl_string(e, "error") ? ": " : "",
			 ctl_string(e, "error"));
}

static void print_history(const json_t *events, bool lost)
{
	size_t n = json_array_size(events), from = n > HISTORY_MAX ? n - HISTORY_MAX : 0;

	printf("  History%s\n", n == 0 ? "     nothing is known" : lost || from ? "     (the newest part)" : "");
	for (size_t k = from; k < n; k++) {
		const json_t *e = json_array_get(events, k);
		_cleanup_free_ char *more = event_more(e), *line = terminal_fit(more, 0);
		char when[32];

		printf("    %s  %s\n", ctl_time(when, sizeof when, ctl_real(e, "time")), line);
	}
}

static void print_depends(const struct explanation *x, const json_t *depends)
{
	_cleanup_text_ struct text t = { 0 };
	size_t n = json_array_size(depends);

	text_printf(&t, "  Depends on  %s", n ? "" : "nothing");
	for (size_t k = 0; k < n; k++) {
		const char *title = json_string_value(json_array_get(depends, k));

		text_printf(&t, "%s%s (%s)", k ? ", " : "", title, state_of_dependency(x, title));
	}
	terminal_print(t.data);
}

static void print_watched(const struct explanation *x, const json_t *i)
{
	const json_t *files = json_object_get(i, "watched");
	size_t n = json_array_size(files), shown = n < FILES_MAX ? n : FILES_MAX;
	long long count = ctl_int(i, "watched_count");
	_cleanup_free_ char *watch = policy_value(x->definition, "watch"), *line = NULL;
	const char *input = ctl_string(x->definition, "input");
	bool globs = strpbrk(watch, "*?[") != NULL; /* other files stand below */

	if (n == 0)
		line = xasprintf("  Watched     its definition%s%s%s%s", *input ? ", " : "", input, *watch ? ", " : "", watch);
	else
		line = xasprintf("  Watched     its definition, and %lld %s%s%s", count, count == 1 ? "file" : "files", globs ? " of " : "",
				 globs ? watch : "");
	terminal_print(line);
	for (size_t k = 0; k < shown; k++)
		printf("    %s\n", json_string_value(json_array_get(files, k)));
	if ((size_t)count > shown && n)
		puts("    ...");
}

static void print_expiry(const struct explanation *x, const json_t *i)
{
	const json_t *expires = json_object_get(i, "expires_s");
	_cleanup_free_ char *max = policy_value(x->definition, "max-age"), *from = policy_value(x->definition, "age-from"),
			    *check = policy_value(x->definition, "check");
	char left[32];

	if (!*max || !strcmp(max, "none"))
		printf("  Max age     none");
	else
		printf("  Max age     %s from %s", max, *from ? from : "creation");
	if (json_is_number(expires) && json_number_value(expires) > 0)
		printf(", %s to go", ctl_span(left, sizeof left, json_number_value(expires)));
	putchar('\n');
	if (*check)
		printf("  Check       %s\n", check);
}

static void print_definition(const struct explanation *x)
{
	const json_t *d = x->definition;
	const char *doc = ctl_string(d, "doc");

	if (!d)
		return;
	printf("  Defined     %s", ctl_string(d, "file"));
	if (ctl_int(d, "line"))
		printf(":%lld", (long long)ctl_int(d, "line"));
	printf(", by %s, of scope %s\n", ctl_string(d, "source"), ctl_string(d, "scope"));
	if (*doc)
		printf("              %.*s\n", (int)strcspn(doc, "\n"), doc);
}

/* Of a sentence of several lines those behind the first: what the builder said. */
static void print_rest(const char *s)
{
	for (s += strcspn(s, "\n"); *s; s += strcspn(s, "\n")) {
		_cleanup_free_ char *line = terminal_fit(++s, 0);

		printf("    %s\n", line);
	}
}

static void print_state(const json_t *i)
{
	const char *state = ctl_string(i, "state");
	_cleanup_free_ char *why = instance_why(i);
	char age[32], took[32];

	printf("  State       %s%s%s", instance_color(state), state, PLAIN);
	if (json_is_integer(json_object_get(i, "size")))
		printf(", generation %lld, built %s ago in %s, used again %lld time%s", (long long)ctl_int(i, "generation"),
		       ctl_span(age, sizeof age, ctl_real(i, "age_s")), explain_duration_of(ctl_real(i, "build_s"), took),
		       (long long)ctl_int(i, "reused"), ctl_int(i, "reused") == 1 ? "" : "s");
	printf("%s%s\n", !instance_is_active(i) && *why ? ": " : "", instance_is_active(i) ? "" : why);
	print_rest(ctl_string(i, "error"));
}

static void print_attach(const char *what)
{
	_cleanup_free_ char *line = xasprintf("  An attach   %s", what);

	terminal_print(line);
}

static void explain_print_instance(const struct explanation *x, const json_t *i, const json_t *events)
{
	_cleanup_free_ char *title = instance_title(i);

	printf("%s%s%s\n", BOLD, title, PLAIN);
	print_state(i);
	print_definition(x);
	print_depends(x, json_object_get(i, "depends"));
	print_watched(x, i);
	print_expiry(x, i);
	if (json_array_size(json_object_get(i, "key_parts")))
		key_parts_print(json_object_get(i, "key_parts"));
	print_history(events, x->history.lost);
	print_attach(ctl_string(i, "attach_now"));
	putchar('\n');
}

/* What nobody has asked for yet. */
static void print_unbuilt(const struct explanation *x, const char *name)
{
	const char *param = json_string_value(json_array_get(json_object_get(x->definition, "params"), 0));
	_cleanup_free_ char *now = param && !strchr(name, '[')
					   ? xasprintf("it has params: one of them is asked for, like %s[%s]", name, param)
					   : builds(x, json_object_get(x->definition, "depends"), "there is none", -1);

	printf("%s%s%s\n  State       absent: nobody has asked for it\n", BOLD, name, PLAIN);
	print_definition(x);
	print_depends(x, json_object_get(x->definition, "depends"));
	print_watched(x, NULL);
	print_expiry(x, NULL);
	print_attach(now);
}

/* What is not on a remote has none, and for others than its user neither. */
static void put_key_parts(const struct explanation *x, json_t *i, const char *title)
{
	json_t *parts = key_parts(x->f, title);

	json_object_set_new(i, "key_parts", parts ? parts : json_null());
}

/* The instances of a status, each with history and attach_now; a new list. */
static json_t *explain_all(const struct explanation *x, const json_t *status)
{
	const json_t *sessions = json_object_get(status, "sessions");
	json_t *list = json_array();

	for (size_t s = 0; s < json_array_size(sessions); s++) {
		const json_t *session = json_array_get(sessions, s), *instances = json_object_get(session, "instances");

		for (size_t k = 0; k < json_array_size(instances); k++) {
			json_t *i = json_array_get(instances, k);
			_cleanup_free_ char *title = instance_title(i), *now = NULL;

			now = attach_now(x, ctl_string(session, "id"), title, i);
			put_key_parts(x, i, title);
			json_object_set_new(i, "attach_now", json_string(now));
			json_object_set_new(i, "history", history_of(&x->history, ctl_string(session, "id"), title));
			json_array_append(list, i);
		}
	}
	return list;
}

static void explain_print(const struct explanation *x, const json_t *explained, const char *name, bool json)
{
	if (json) {
		json_t *all = json_pack("{s:s, s:O?, s:O}", "name", name, "definition", x->definition, "instances", (json_t *)explained);

		ctl_print_json(all);
		json_decref(all);
		return;
	}
	for (size_t k = 0; k < json_array_size(explained); k++) {
		const json_t *i = json_array_get(explained, k);

		explain_print_instance(x, i, json_object_get(i, "history"));
	}
	if (json_array_size(explained) == 0)
		print_unbuilt(x, name);
}

/* A param that the fixture does not have is a mistake, and not one that was never built. */
static int check_param(const json_t *definition, const char *name)
{
	const json_t *params = json_object_get(definition, "params");
	_cleanup_free_ char *param = NULL, *question = NULL;
	_cleanup_text_ struct text all = { 0 };
	size_t n = strlen(ctl_string(definition, "name"));

	if (name[n] != '[' || !strcmp(ctl_string(definition, "source"), "client"))
		return 0;
	param = xstrndup(name + n + 1, strcspn(name + n + 1, "]"));
	text_puts(&all, "");
	for (size_t k = 0; k < json_array_size(params); k++) {
		const char *known = json_string_value(json_array_get(params, k));

		if (!strcmp(known, param))
			return 0;
		text_printf(&all, "%s,", known);
	}
	question = nearest_question(param, all.data);
	fprintf(stderr, "fixctl: fixture '%s' has no param '%s'%s\n", ctl_string(definition, "name"), param, question);
	return EXIT_REFUSED;
}

/* EXIT_REFUSED: they differ, or it cannot be said. */
static int against(const json_t *explained, const char *file)
{
	int code = json_array_size(explained) ? 0 : EXIT_REFUSED;

	for (size_t k = 0; k < json_array_size(explained); k++) {
		const json_t *i = json_array_get(explained, k);
		_cleanup_free_ char *title = instance_title(i);

		if (key_parts_compare(json_object_get(i, "key_parts"), title, file) != 0)
			code = EXIT_REFUSED;
	}
	if (json_array_size(explained) == 0)
		fputs("fixctl: it was not built here: it has no key\n", stderr);
	return code;
}

static int explain(struct fixd *f, const char *name, bool json, const char *other)
{
	struct explanation x = { .f = f };
	json_t *list = NULL, *status = NULL, *explained;
	int code = ctl_query(f, WIRE_TYPE_list, name, &list);

	if (code == 0 && json_array_size(json_object_get(list, "fixtures")) == 0)
		code = ctl_unknown(f, name);
	x.definition = json_array_get(json_object_get(list, "fixtures"), 0);
	if (code == 0)
		code = check_param(x.definition, name);
	if (code == 0)
		code = ctl_query(f, WIRE_TYPE_status, "", &x.all);
	if (code == 0)
		code = ctl_query(f, WIRE_TYPE_status, name, &status);
	if (code == 0)
		code = history_read(&x.history, f);
	if (code == 0) {
		explained = explain_all(&x, status);
		if (other)
			code = against(explained, other);
		else
			explain_print(&x, explained, name, json);
		json_decref(explained);
	}
	history_deinit(&x.history);
	json_decref(list);
	json_decref(x.all);
	json_decref(status);
	return code;
}

static int explain_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "against", required_argument, NULL, 'a' },
						 { NULL, 0, NULL, 0 } };
	const char *other = NULL;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (c == 'a')
			other = optarg;
		else if (c == 'j')
			ctl->json = true;
		else
			ctl_bad_option("explain");
	}
	if (other && ctl->json)
		ctl_misuse("explain", "--against has no JSON form");
	ctl_expect("explain", argc, argv, 1, 1, "a NAME");
	if (strcspn(argv[optind], "*?") < strcspn(argv[optind], "["))
		ctl_misuse("explain", "'%s' is a glob: expected the name of one fixture", argv[optind]);
	f = other ? ctl_open(ctl) : ctl_open_to_show(ctl);
	code = explain(f, argv[optind], ctl->json, other);
	fixd_close(f);
	return code;
}

const struct fixctl_command command_explain = {
	.name = "explain",
	.json = true,
	.run = explain_run,
	.summary = "why a fixture was built, and what an attach would do",
	.help = "explain [--json | --against FILE] NAME\n"
		"Of the fixture NAME or NAME[PARAM]: its state, where it is defined, what it depends on and what is watched, when it\n"
		"will be too old, why it was built and became stale as far as the log of events goes back, and what an attach would\n"
		"do now; of what is on a remote also what its key there is made from.\n"
		"\n"
		"      --against FILE  only which parts of the key are not those in FILE, what explain --json has printed on another\n"
		"                      machine; exits with 1 if there are any\n"
		"  -j, --json  as JSON",
};
