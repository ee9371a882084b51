/* SPDX-License-Identifier: MIT */
/* fixctl log: what the builder of a fixture wrote to its standard error, byte by byte. */
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "fixctl/fixctl.h"
#include "fixd.h"
#include "wire/wire.h"

static int run(struct fixctl *ctl, int argc, char **argv)
{
	char body[sizeof(struct wire_query) + WIRE_NAME_MAX];
	_cleanup_free_ char *text = NULL;
	struct wire_query q = { 0 };
	struct fixd *f;
	size_t size;
	int code;

	if (argc > 1 && argv[1][0] == '-')
		ctl_misuse("log", "unknown option '%s'", argv[1]);
	if (argc != 2 || strlen(argv[1]) > WIRE_NAME_MAX)
		ctl_misuse("log", "exactly one NAME is needed");
	q.pattern = (uint16_t)strlen(argv[1]);
	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, argv[1], q.pattern);
	f = ctl_open(ctl);
	code = ctl_report_text(f, WIRE_TYPE_log, body, sizeof q + q.pattern, &text, &size);
	if (code == 0 && fd_write_all(STDOUT_FILENO, text, size) < 0)
		code = EXIT_REFUSED;
	fixd_close(f);
	return code;
}

const struct fixctl_command command_log = {
	.name = "log",
	.run = run,
	.summary = "what a builder wrote to its standard error",
	.help = "log NAME\n"
		"Prints what the builder of NAME or NAME[PARAM] wrote during its last build (the last 64 KiB).",
};
