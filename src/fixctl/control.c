/* SPDX-License-Identifier: MIT */
/* reload, restart and stop. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixd.h"

#define STOP_MS 60000

static void no_arguments(const char *command, int argc, char **argv)
{
	if (argc > 1)
		ctl_misuse(command, "unexpected argument '%s'", argv[1]);
}

static int run_reload(struct fixctl *ctl, int argc, char **argv)
{
	const struct wire_query q = { 0 };
	_cleanup_free_ char *warnings = NULL;
	struct fixd *f;
	size_t size;
	int code;

	no_arguments("reload", argc, argv);
	f = ctl_open(ctl);
	code = ctl_report_text(f, WIRE_TYPE_reload, &q, sizeof q, &warnings, &size);
	if (code == 0)
		fputs(warnings, stderr);
	fixd_close(f);
	return code;
}

static int run_restart(struct fixctl *ctl, int argc, char **argv)
{
	const struct wire_query q = { 0 };
	_cleanup_free_ char *words = NULL;
	struct fixd *f;
	size_t size;
	int code;

	no_arguments("restart", argc, argv);
	f = ctl_open(ctl);
	code = ctl_report_text(f, WIRE_TYPE_restart, &q, sizeof q, &words, &size);
	if (code == 0)
		fputs(words, stdout);
	fixd_close(f);
	return code;
}

static int run_stop(struct fixctl *ctl, int argc, char **argv)
{
	const struct wire_query q = { 0 };
	struct fixd *f;
	struct reply reply = { .wanted = 0 };
	uint64_t id;
	int r;

	no_arguments("stop", argc, argv);
	f = ctl_open(ctl);
	r = connection_send(f, WIRE_TYPE_stop, &q, sizeof q, &id);
	/* It closes the connection when everything is torn down. */
	while (r == 0) {
		r = connection_receive(f, STOP_MS, &id, &reply);
		if (r == 0)
			reply_close(&reply);
	}
	r = r == -ECONNRESET ? EXIT_SUCCESS : ctl_failed(f, r);
	fixd_close(f);
	return r;
}

const struct fixctl_command command_reload = {
	.name = "reload",
	.run = run_reload,
	.summary = "read the configuration again",
	.help = "reload\n"
		"Makes the daemon read its file again. If something is wrong with it, that is printed and the old one stays.",
};

const struct fixctl_command command_restart = {
	.name = "restart",
	.run = run_restart,
	.summary = "restart the daemon without loss",
	.help = "restart\n"
		"The daemon becomes the program that is installed now, with all its images, services, clients and requests. If that\n"
		"cannot be its successor, it says why and everything stays as it is.",
};

const struct fixctl_command command_stop = {
	.name = "stop",
	.run = run_stop,
	.summary = "end the daemon",
	.help = "stop\n"
		"Ends the daemon with all its images, and waits until it is done.",
};
