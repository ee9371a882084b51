/* SPDX-License-Identifier: MIT */
/* fixctl get: the bytes of an image, to standard output or to a file. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "client/view.h"
#include "fixctl/fixctl.h"
#include "fixctl/output.h"
#include "fixd.h"

/* Nothing in it would control a terminal. */
static bool is_text(const unsigned char *s, size_t size)
{
	for (size_t k = 0; k < size; k++) {
		bool control = (s[k] < ' ' && !strchr("\t\n\r", s[k])) || s[k] == 0x7f;

		if (control || !s[k] || (s[k] == 0xc2 && k + 1 < size && s[k + 1] < 0xa0))
			return false;
	}
	return true;
}

/* To people at a terminal what they can read, in lines. */
static int print_bytes(const char *name, const void *data, size_t size)
{
	bool shown = isatty(STDOUT_FILENO);
	int r;

	if (shown && !is_text(data, size)) {
		fprintf(stderr, "fixctl: '%s' is no text to show on a terminal; expected -o FILE or a pipe\n", name);
		return EXIT_REFUSED;
	}
	r = fd_write_all(STDOUT_FILENO, data, size);
	if (r == 0 && shown && size && ((const char *)data)[size - 1] != '\n')
		r = fd_write_all(STDOUT_FILENO, "\n", 1);
	if (r < 0)
		fprintf(stderr, "fixctl: standard output: %s\n", strerror(-r));
	return r < 0 ? EXIT_REFUSED : EXIT_SUCCESS;
}

static void get_print_json(const char *name, const char *output, const struct fixd_view *v)
{
	json_t *j =
		json_pack("{s:o, s:o, s:I, s:I, s:b}", "name", ctl_name(name), "output", ctl_name(output), "size",
			  (json_int_t)fixd_view_size(v), "generation", (json_int_t)fixd_view_generation(v), "built", fixd_view_built(v));

	ctl_print_json(j);
	json_decref(j);
}

static int get_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "output", required_argument, NULL, 'o' },
		{ "scope-key", required_argument, NULL, 'k' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	struct fixd_options how = { .size = sizeof how };
	const char *output = NULL;
	struct fixd_view *v;
	struct fixd *f;
	int c, r, code = EXIT_SUCCESS;

	while ((c = getopt_long(argc, argv, "o:k:j", options, NULL)) >= 0) {
		if (c == 'o')
			output = optarg;
		else if (c == 'k')
			how.scope_key = optarg;
		else if (c == 'j')
			ctl->json = true;
		else
			ctl_bad_option("get");
	}
	ctl_expect("get", argc, argv, 1, 1, "a NAME");
	if (ctl->json && !output)
		ctl_misuse("get", "--json needs --output: standard output would have both");
	f = ctl_open(ctl);
	r = view_attach(f, argv[optind], &how, WIRE_ATTACH_LOOK, &v, NULL, NULL);
	if (r < 0) {
		code = ctl_failed(f, r);
		fixd_close(f);
		return code;
	}
	if (!output) {
		code = print_bytes(argv[optind], fixd_view_data(v), fixd_view_size(v));
	} else if ((r = output_write(output, fixd_view_data(v), fixd_view_size(v))) < 0) {
		fprintf(stderr, "fixctl: %s: %s\n", output, strerror(-r));
		code = EXIT_REFUSED;
	}
	if (code == EXIT_SUCCESS && ctl->json)
		get_print_json(argv[optind], output, v);
	fixd_detach(v);
	fixd_close(f);
	return code;
}

const struct fixctl_command command_get = {
	.name = "get",
	.json = true,
	.run = get_run,
	.summary = "the bytes of an image",
	.help = "get [-o FILE [--json]] [--scope-key KEY] NAME\n"
		"Writes the bytes of the fixture NAME or NAME[PARAM], which is built first if need be. Of a directory these are\n"
		"its manifest.\n"
		"\n"
		"  -o, --output FILE    to FILE, all or nothing, instead of standard output\n"
		"  -k, --scope-key KEY  for a fixture of a narrower scope than session\n"
		"  -j, --json           with -o, what was written, as JSON",
};
