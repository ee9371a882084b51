/* SPDX-License-Identifier: MIT */
/* The table of commands, the options before a command, and the help. What a command does is in its own file. */
#include <getopt.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/nearest.h"
#include "base/text.h"
#include "fixctl/fixctl.h"
#include "fixctl/manual.h"

static const struct fixctl_command *const commands[] = {
	&command_init,	  &command_ps,	  &command_explain, &command_status, &command_list,    &command_warm,	&command_get,
	&command_cleanup, &command_run,	  &command_with,    &command_fork,   &command_trace,   &command_report, &command_bench,
	&command_log,	  &command_graph, &command_remote,  &command_reload, &command_restart, &command_stop,	&command_doctor,
};

static const struct fixctl_command *main_find_command(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	}
	return NULL;
}

static _Noreturn void no_command(const char *name)
{
	_cleanup_text_ struct text all = { 0 };
	_cleanup_free_ char *question = NULL;

	text_puts(&all, "help");
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		text_printf(&all, ",%s", commands[i]->name);
	question = nearest_question(name, all.data);
	ctl_misuse(NULL, "there is no command '%s'%s", name, question);
}

/* In 23 lines: the prompt of a terminal of 24 has room below. */
static void print_commands(FILE *out)
{
	fputs("Usage: fixctl [OPTION...] COMMAND [ARGUMENT...]  (more: fixctl help COMMAND)\n", out);
	for (size_t i = 0; i < ELEMENTSOF(commands); i++)
		fprintf(out, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
	fputs("  -s, --socket PATH  -S, --session DIR  -j, --json  -h, --help  -V, --version\n", out);
}

static int print_help(const char *name)
{
	const struct fixctl_command *c = name ? main_find_command(name) : NULL;

	if (c) {
		ctl_print_help(c);
		return EXIT_SUCCESS;
	}
	if (name)
		no_command(name);
	print_commands(stdout);
	return EXIT_SUCCESS;
}

/* To people at a terminal the manual tells more. */
static int help(const char *name)
{
	if (name && main_find_command(name) && manual_open(name))
		return EXIT_SUCCESS;
	return print_help(name);
}

/* What could not be written was not done. */
static int close_stdout(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return code;
	perror("fixctl: standard output");
	return code ? code : EXIT_REFUSED;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "socket", required_argument, NULL, 's' }, { "session", required_argument, NULL, 'S' }, { "json", no_argument, NULL, 'j' },
		{ "help", no_argument, NULL, 'h' },	    { "version", no_argument, NULL, 'V' },	 { NULL, 0, NULL, 0 },
	};
	struct fixctl ctl = { 0 };
	const struct fixctl_command *command;
	int c;

	/* A connection is not to get the number of what is closed. */
	if (fd_guard_standard() < 0)
		return EXIT_REFUSED;
	/* For what a character takes of a line; nothing else depends on it. */
	setlocale(LC_CTYPE, "C.UTF-8");
	while ((c = getopt_long(argc, argv, "+s:S:jhV", options, NULL)) >= 0) {
		switch (c) {
		case 's':
			ctl.socket = optarg;
			break;
		case 'S':
			ctl.session = optarg;
			break;
		case 'j':
			ctl.json = true;
			break;
		case 'h':
			return close_stdout(print_help(NULL));
		case 'V':
			puts("fixctl " PACKAGE_VERSION);
			return close_stdout(EXIT_SUCCESS);
		default:
			ctl_bad_option(NULL);
		}
	}
	if (optind == argc) {
		print_commands(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[optind], "help")) {
		const char *of = argv[optind + 1];

		return close_stdout(help(of && *of != '-' && strcmp(of, "help") != 0 ? of : NULL));
	}
	command = main_find_command(argv[optind]);
	if (!command)
		no_command(argv[optind]);
	argc -= optind;
	argv += optind;
	argv[0] = (char *)"fixctl";
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0 && command != &command_run; i++) {
		if (!strcmp(argv[i], "--help"))
			return close_stdout(print_help(command->name));
	}
	if (ctl.json && !command->json)
		ctl_misuse(command->name, "it has no JSON form: leave --json out");
	optind = 0; /* glibc: start again */
	return close_stdout(command->run(&ctl, argc, argv));
}
