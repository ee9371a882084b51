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

/* Asks, and prints what the daemon has to say of it. */
static int ask(struct fixctl *ctl, uint16_t type, FILE *out)
{
	const struct wire_query q = { 0 };
	_cleanup_free_ char *words = NULL;
	struct fixd *f = ctl_open(ctl);
	size_t size;
	int code = ctl_report_text(f, type, &q, sizeof q, &words, &size);

	if (code == 0)
		fputs(words, out);
	fixd_close(f);
	return code;
}

static int run_reload(struct fixctl *ctl, int argc, char **argv)
{
	no_arguments("reload", argc, argv);
	return ask(ctl, WIRE_TYPE_reload, stderr);
}

static int run_restart(struct fixctl *ctl, int argc, char **argv)
{
	no_arguments("restart", argc, argv);
	return ask(ctl, WIRE_TYPE_restart, stdout);
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
