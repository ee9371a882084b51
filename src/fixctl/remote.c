/* SPDX-License-Identifier: MIT */
/* fixctl remote: what goes between the daemon and its remote, whether that is as it should be, and moving an image by hand. */
#include "fixctl/remote.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/program.h"
#include "fixctl/transfers.h"
#include "fixctl/warming.h"

#include "fixd.h"

/* The object of the remote in a status, which is the caller's then; or an exit code. */
static int ask_status(struct fixd *f, json_t **status, const json_t **remote)
{
	int code = ctl_query(f, WIRE_TYPE_status, "", status);

	if (code)
		return code;
	*remote = json_object_get(json_object_get(*status, "daemon"), "remote");
	if (json_is_object(*remote))
		return 0;
	fprintf(stderr, "fixctl: this daemon has no remote: its configuration lacks a section [remote] (fixd.ini(5))\n");
	json_decref(*status);
	*status = NULL;
	return EXIT_REFUSED;
}

static char *joined(const json_t *list)
{
	struct text t = { 0 };

	for (size_t k = 0; k < json_array_size(list); k++)
		text_printf(&t, "%s%s", k ? ", " : "", json_string_value(json_array_get(list, k)));
	return text_steal(&t);
}

/* 30 days. */
#define PRUNE_OLDER_THAN (720 * 3600 * NSEC_PER_SEC)

static void print_moved(const char *label, const json_t *r, const char *count, const char *bytes)
{
	char size[32];
	long long n = ctl_int(r, count);

	printf("%s%lld image%s, %s\n", label, n, n == 1 ? "" : "s", format_size(size, sizeof size, (uint64_t)ctl_int(r, bytes)));
}

static void print_status(const json_t *r, long rests, long uploads)
{
	_cleanup_free_ char *reads = joined(json_object_get(r, "reads"));
	const json_t *transfers = json_object_get(r, "transfers");

	printf("URL: %s\n", ctl_string(r, "url"));
	printf("Reads: %s\n", *reads ? reads : "nothing: no key is trusted");
	printf("Writes: %s\n", json_is_true(json_object_get(r, "writes")) ? ctl_string(r, "namespace") : "nothing");
	if (rests > 0)
		printf("%sLeft alone:%s it has failed, and is asked again in %ld s\n", YELLOW, PLAIN, rests);
	else if (uploads > 0)
		printf("%sLeft alone:%s it has taken nothing, and is sent something again in %ld s\n", YELLOW, PLAIN, uploads);
	print_moved("Downloads: ", r, "downloads", "downloaded_bytes");
	print_moved("Uploads: ", r, "uploads", "uploaded_bytes");
	if (ctl_int(r, "failures"))
		printf("Failures: %lld\n", (long long)ctl_int(r, "failures"));
	for (size_t k = 0; k < json_array_size(transfers); k++) {
		_cleanup_free_ char *words = transfer_words(json_array_get(transfers, k));

		printf("Now: %s\n", words);
	}
}

static int run_status(struct fixd *f, const struct remote_request *q)
{
	const json_t *remote;
	json_t *status;
	long rests = 0, uploads = 0;
	int code = ask_status(f, &status, &remote);

	if (code)
		return code;
	code = remote_rests(remote, &rests, &uploads);
	if (code == 0 && q->json) {
		json_t *copy = json_copy((json_t *)remote);

		_cleanup_free_ char *program = program_path("fixd-remote");

		json_object_set_new(copy, "left_alone_s", json_integer(rests));
		json_object_set_new(copy, "sends_nothing_s", json_integer(uploads));
		json_object_set_new(copy, "program", ctl_text(program, strlen(program)));
		ctl_print_json(copy);
		json_decref(copy);
	} else if (code == 0) {
		print_status(remote, rests, uploads);
	}
	json_decref(status);
	return code;
}

static int run_check(struct fixd *f, const struct remote_request *q)
{
	const json_t *remote;
	json_t *status;
	int code = ask_status(f, &status, &remote);

	if (code)
		return code;
	code = remote_check(remote, q->json);
	json_decref(status);
	return code;
}

static void print_done(const struct remote_request *q, const char *name, const char *done, const char *words)
{
	json_t *j;

	if (!q->json) {
		printf("%s: %s%s%s\n", name, done, *words ? ", " : "", words);
		return;
	}
	j = json_pack("{s:s, s:s, s:s}", "name", name, "done", done, "message", words);
	json_dumpf(j, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
}

static int push(struct fixd *f, const struct remote_request *q, const json_t *remote, const char *name)
{
	char *words = NULL;
	int code = remote_push(f, remote, name, q->anew, &words);

	if (code == 0)
		print_done(q, name, "pushed", words);
	free(words);
	return code;
}

static int run_push(struct fixd *f, const struct remote_request *q)
{
	const json_t *remote;
	json_t *status;
	int code = ask_status(f, &status, &remote);

	if (code)
		return code;
	if (!json_is_true(json_object_get(remote, "writes"))) {
		fprintf(stderr, "fixctl: nothing goes to this remote: expected write = yes and key-file in [remote]\n");
		code = EXIT_REFUSED;
	}
	for (char **name = q->names; code != EXIT_REFUSED && *name; name++) {
		int one = push(f, q, remote, *name);

		code = code ? code : one;
	}
	json_decref(status);
	return code;
}

/* What has happened to the fixture since: the event "downloaded" without an error, or "ready". */
static int pulled(struct fixd *f, uint64_t *from, const char *name, bool *from_remote, bool *built)
{
	bool more = true;

	*from_remote = *built = false;
	while (more) {
		json_t *report;
		int code = ctl_events(f, from, 0, &report);
		const json_t *events;

		if (code)
			return code;
		events = json_object_get(report, "events");
		for (size_t k = 0; name && k < json_array_size(events); k++) {
			const json_t *e = json_array_get(events, k);
			const char *event = ctl_string(e, "event");

			if (strcmp(ctl_string(e, "name"), name) != 0)
				continue;
			*from_remote |= !strcmp(event, "downloaded") && !*ctl_string(e, "error");
			*built |= !strcmp(event, "ready");
		}
		more = json_is_true(json_object_get(report, "more"));
		json_decref(report);
	}
	return 0;
}

static int pull(struct fixd *f, const struct remote_request *q, uint64_t *from, char *name)
{
	struct warming w = { .f = f, .names = &name, .n = 1, .timeout_ms = connection_timeout(), .out = stderr };
	bool from_remote, built;
	int code = pulled(f, from, NULL, &from_remote, &built);

	if (code == 0)
		code = warming_run(&w);
	if (code == 0)
		code = pulled(f, from, name, &from_remote, &built);
	if (code)
		return code;
	print_done(q, name,
		   from_remote ? "pulled"
		   : built     ? "built"
			       : "kept",
		   from_remote ? ""
		   : built     ? "it is not on the remote, or was not taken: see fixctl log"
			       : "it was here already");
	return from_remote || !built ? 0 : EXIT_REFUSED;
}

static int run_pull(struct fixd *f, const struct remote_request *q)
{
	const json_t *remote;
	json_t *status;
	uint64_t from = 0;
	int code = ask_status(f, &status, &remote);

	if (code)
		return code;
	json_decref(status);
	for (char **name = q->names; *name; name++) {
		int one = pull(f, q, &from, *name);

		code = code ? code : one;
	}
	return code;
}

static const struct remote_command {
	const char *name;
	int (*run)(struct fixd *f, const struct remote_request *q);
	int (*run_alone)(const struct remote_request *q); /* in its place: it needs no daemon */
	const char *takes;				  /* what its arguments are, or NULL */
} commands[] = {
	{ .name = "status", .run = run_status },
	{ .name = "check", .run = run_check },
	{ .name = "push", .run = run_push, .takes = "NAME" },
	{ .name = "pull", .run = run_pull, .takes = "NAME" },
	{ .name = "prune", .run_alone = remote_prune, .takes = "DIRECTORY" },
	{ .name = "keygen", .run_alone = remote_keygen, .takes = "FILE" },
};

static const struct remote_command *remote_find_command(const char *name)
{
	_cleanup_text_ struct text all = { 0 };
	_cleanup_free_ char *question = NULL;

	for (size_t k = 0; k < ELEMENTSOF(commands); k++) {
		if (!strcmp(commands[k].name, name))
			return &commands[k];
		text_printf(&all, "%s,", commands[k].name);
	}
	question = nearest_question(name, all.data);
	ctl_misuse("remote", "there is no 'remote %s'%s", name, question);
}

static int remote_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "older-than", required_argument, NULL, 'o' },
						 { "dry-run", no_argument, NULL, 'n' },
						 { "anew", no_argument, NULL, 'a' },
						 { NULL, 0, NULL, 0 } };
	const struct remote_command *command;
	_cleanup_free_ char *missing = NULL;
	int64_t older_than = PRUNE_OLDER_THAN;
	struct remote_request q = { 0 };
	bool prunes = false;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "jn", options, NULL)) >= 0) {
		if (c == 'j')
			ctl->json = true;
		else if (c == 'n')
			q.dry = prunes = true;
		else if (c == 'a')
			q.anew = true;
		else if (c != 'o')
			ctl_bad_option("remote");
		else if (prunes = true, parse_duration(optarg, &older_than) < 0)
			ctl_misuse("remote", "--older-than %s: expected a number with ms, s, m or h", optarg);
	}
	command = remote_find_command(optind < argc ? argv[optind++] : "status");
	if (command->run_alone != remote_prune && prunes)
		ctl_misuse("remote", "--older-than and --dry-run are for remote prune");
	if (q.anew && strcmp(command->name, "push") != 0)
		ctl_misuse("remote", "--anew is for remote push");
	missing = xasprintf("the %s of remote %s", command->takes, command->name);
	ctl_expect("remote", argc, argv, command->takes != NULL, !command->takes ? 0 : command->run_alone ? 1 : INT_MAX, missing);
	q.names = argv + optind;
	q.json = ctl->json;
	q.older_than_s = older_than / NSEC_PER_SEC;
	if (command->run_alone)
		return command->run_alone(&q);
	f = ctl_open(ctl);
	code = command->run(f, &q);
	fixd_close(f);
	return code;
}

const struct fixctl_command command_remote = {
	.name = "remote",
	.json = true,
	.run = remote_run,
	.summary = "images of other machines: state, check, push, pull, prune",
	.help = "remote [--json] [status | check | push NAME... | pull NAME... | prune [OPTION]... DIRECTORY | keygen FILE]\n"
		"status: what the daemon reads and writes there, what came and went, and what is on its way.\n"
		"check: whether the server answers and keeps what it is given, and the keys fit; exits with 1 if not.\n"
		"push: sends images that are here, and have not arrived or are to be there again. pull: gets fixtures, from the\n"
		"remote if they are there; exits with 1 if one had to be built.\n"
		"prune: on the machine of the server, removes from the directory that it gives out what nobody uses any more.\n"
		"keygen: makes a secret key, which FILE is then, and prints the public one.\n"
		"\n"
		"  -j, --json         as JSON; of push and pull an object a line\n"
		"      --anew         push: every piece, also what is there; one of them may be wrong\n"
		"  --older-than TIME  prune: what was neither read nor written for that long (default 720h)\n"
		"  -n, --dry-run      prune: say what would be removed",
};
