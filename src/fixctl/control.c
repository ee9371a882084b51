/* SPDX-License-Identifier: MIT */
/* reload, restart and stop. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixd.h"

/* What is torn down has time limits of its own. */
#define STOP_MS 86400000

static void no_arguments(struct fixctl *ctl, const char *command, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (c != 'j')
			ctl_bad_option(command);
		ctl->json = true;
	}
	ctl_expect(command, argc, argv, 0, 0, NULL);
}

/* What the daemon has to say of something that it has done. */
static void control_say(const struct fixctl *ctl, const char *command, const char *words, size_t size, FILE *out)
{
	json_t *j;

	if (!ctl->json) {
		fputs(words, out);
		return;
	}
	j = json_pack("{s:s, s:o}", "done", command, "message", ctl_text(words, size && words[size - 1] == '\n' ? size - 1 : size));
	ctl_print_json(j);
	json_decref(j);
}

static int control_ask(struct fixctl *ctl, const char *command, uint16_t type, FILE *out)
{
	const struct wire_query q = { 0 };
	_cleanup_free_ char *words = NULL;
	struct fixd *f = ctl_open(ctl);
	size_t size;
	int code = ctl_report_text(f, type, &q, sizeof q, &words, &size);

	if (code == 0)
		control_say(ctl, command, words, size, out);
	fixd_close(f);
	return code;
}

static int run_reload(struct fixctl *ctl, int argc, char **argv)
{
	no_arguments(ctl, "reload", argc, argv);
	return control_ask(ctl, "reload", WIRE_TYPE_reload, stderr);
}

static int run_restart(struct fixctl *ctl, int argc, char **argv)
{
	no_arguments(ctl, "restart", argc, argv);
	return control_ask(ctl, "restart", WIRE_TYPE_restart, stdout);
}

static int run_stop(struct fixctl *ctl, int argc, char **argv)
{
	const struct wire_query q = { 0 };
	struct fixd *f;
	struct reply reply = { .wanted = 0 };
	uint64_t id;
	int r;

	no_arguments(ctl, "stop", argc, argv);
	f = ctl_open(ctl);
	r = connection_send(f, WIRE_TYPE_stop, &q, sizeof q, &id);
	/* It closes the connection when everything is torn down. */
	while (r == 0) {
		r = connection_receive(f, STOP_MS, &id, &reply);
		if (r == 0)
			reply_close(&reply);
	}
	r = r == -ECONNRESET ? EXIT_SUCCESS : ctl_failed(f, r);
	if (r == EXIT_SUCCESS)
		control_say(ctl, "stop", "", 0, stdout);
	fixd_close(f);
	return r;
}

const struct fixctl_command command_reload = {
	.name = "reload",
	.json = true,
	.run = run_reload,
	.summary = "read the configuration again",
	.help = "reload [--json]\n"
		"Makes the daemon read its file again. If something is wrong with it, that is printed and the old one stays.\n"
		"\n"
		"  -j, --json  what it says as JSON: done, message",
};

const struct fixctl_command command_restart = {
	.name = "restart",
	.json = true,
	.run = run_restart,
	.summary = "restart the daemon without loss",
	.help = "restart [--json]\n"
		"The daemon becomes the program that is installed now, with all its images, services, clients and requests. If that\n"
		"cannot be its successor, it says why and everything stays as it is.\n"
		"\n"
		"  -j, --json  what it says as JSON: done, message",
};

const struct fixctl_command command_stop = {
	.name = "stop",
	.json = true,
	.run = run_stop,
	.summary = "end the daemon",
	.help = "stop [--json]\n"
		"Ends the daemon with all its images, and waits until it is done.\n"
		"\n"
		"  -j, --json  that it is done as JSON: done, message",
};
