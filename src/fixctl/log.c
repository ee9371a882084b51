/* SPDX-License-Identifier: MIT */
/* fixctl log: what the builder of a fixture wrote to its standard error, byte by byte. */
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "fixctl/fixctl.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "wire/wire.h"

static void log_print_json(const char *name, const char *text, size_t size)
{
	json_t *j = json_pack("{s:o, s:o}", "name", ctl_name(name), "text", ctl_text(text, size));

	ctl_print_json(j);
	json_decref(j);
}

/* The bytes themselves; a terminal gets of what would control it the colours only. */
static int log_print(const char *text, size_t size)
{
	_cleanup_free_ char *plain = isatty(STDOUT_FILENO) ? terminal_plain(text, size, true) : NULL;

	return fd_write_all(STDOUT_FILENO, plain ? plain : text, plain ? strlen(plain) : size) < 0 ? EXIT_REFUSED : EXIT_SUCCESS;
}

static int log_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	char body[sizeof(struct wire_query) + WIRE_NAME_MAX];
	_cleanup_free_ char *text = NULL;
	struct wire_query q = { 0 };
	struct fixd *f;
	size_t size;
	int c, code;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (c != 'j')
			ctl_bad_option("log");
		ctl->json = true;
	}
	ctl_expect("log", argc, argv, 1, 1, "a NAME");
	if (strlen(argv[optind]) > WIRE_NAME_MAX)
		ctl_misuse("log", "a name has at most %d bytes", WIRE_NAME_MAX);
	q.pattern = (uint16_t)strlen(argv[optind]);
	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, argv[optind], q.pattern);
	f = ctl_open(ctl);
	code = ctl_report_text(f, WIRE_TYPE_log, body, sizeof q + q.pattern, &text, &size);
	if (code == 0 && ctl->json)
		log_print_json(argv[optind], text, size);
	else if (code == 0)
		code = log_print(text, size);
	fixd_close(f);
	return code;
}

const struct fixctl_command command_log = {
	.name = "log",
	.json = true,
	.run = log_run,
	.summary = "what a builder wrote to its standard error",
	.help = "log [--json] NAME\n"
		"Prints what the builder of NAME or NAME[PARAM] wrote during its last build, which may be running (the last\n"
		"64 KiB).\n"
		"\n"
		"  -j, --json  as JSON: name, text",
};
