/* SPDX-License-Identifier: MIT */
/* fixctl init: a fixd.ini to begin with, of what a source tree has. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "fixctl/fixctl.h"
#include "fixctl/project.h"

static const char head[] = "# Fixtures of this project, for fixd: fixd.ini(5) has every key, fixd(7) a\n"
			   "# tutorial.\n"
			   "#\n"
			   "# Is it right?     fixd --config fixd.ini --check\n";

static const char policy[] = "\n"
			     "[policy]\n"
			     "# How long an image may be used. What it is made from is watched in any case.\n"
			     "max-age = 1h\n";

static const char examples[] = "\n"
			       "# What takes time to make: a command, whose standard output the fixture is. It\n"
			       "# is built once, and again when one of the watched files changes. Tests have it\n"
			       "# as $FIXD_FIXTURE_<NAME>.\n"
			       "#\n"
			       "# [fixture index]\n"
			       "# command = ./make-index src/*.txt\n"
			       "# watch = src/*.txt\n"
			       "#\n"
			       "# A directory that a command fills, and a server over a private copy of it, a\n"
			       "# pristine one for each test:\n"
			       "#\n"
			       "# [fixture database]\n"
			       "# tree = ./init-and-migrate \"$FIXD_DIR\"\n"
			       "# watch = migrations/*.sql\n"
			       "#\n"
			       "# [fixture server]\n"
			       "# service = exec ./server --data \"$FIXD_DATA\" --port $FIXD_PORT\n"
			       "# data = database\n"
			       "# clones = 4\n"
			       "# ready = port\n";

static void put_suites(struct text *t, const struct project *p)
{
	for (size_t k = 0; k < p->n_suites; k++)
		text_printf(t, "# %-16s fixctl run -c fixd.ini -- %s\n", p->suites[k]->name, p->suites[k]->command);
	if (p->n_suites == 0)
		text_puts(t, "# Your tests:      fixctl run -c fixd.ini -- make check\n");
}

static void put_data(struct text *t, const struct project_data *d)
{
	char size[32];

	text_printf(t,
		    "\n"
		    "# %llu file%s, %s. Tests find them at the same path and may change them:\n"
		    "# the next run starts pristine.\n"
		    "[fixture %s]\n"
		    "directory = %s\n"
		    "path = %s\n",
		    (unsigned long long)d->files, d->files == 1 ? "" : "s", format_size(size, sizeof size, d->bytes), d->name, d->path,
		    d->path);
}

static char *make_ini(const struct project *p)
{
	struct text t = { 0 };

	text_puts(&t, head);
	put_suites(&t, p);
	text_puts(&t, policy);
	for (size_t k = 0; k < p->n_data; k++)
		put_data(&t, &p->data[k]);
	text_puts(&t, examples);
	return text_steal(&t);
}

/* All or nothing, and nothing in the place of what is there. */
static int write_new(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r < 0)
		unlink(path);
	return r;
}

static json_t *as_json(const struct project *p, const char *path)
{
	json_t *suites = json_array(), *fixtures = json_array();

	for (size_t k = 0; k < p->n_suites; k++)
		json_array_append_new(suites, json_pack("{s:s, s:s}", "name", p->suites[k]->name, "command", p->suites[k]->command));
	for (size_t k = 0; k < p->n_data; k++) {
		const struct project_data *d = &p->data[k];

		json_array_append_new(fixtures, json_pack("{s:s, s:o, s:I, s:I}", "name", d->name, "directory", ctl_name(d->path), "files",
							  (json_int_t)d->files, "bytes", (json_int_t)d->bytes));
	}
	return json_pack("{s:o, s:o, s:o}", "file", ctl_name(path), "suites", suites, "fixtures", fixtures);
}

static void init_say(const struct project *p, const char *directory, const char *path, bool json)
{
	bool elsewhere = strcmp(directory, ".") != 0;
	json_t *j;

	if (json) {
		j = as_json(p, path);
		ctl_print_json(j);
		json_decref(j);
		return;
	}
	printf("%s: written, with %zu %s\n", path, p->n_data, p->n_data == 1 ? "directory of data" : "directories of data");
	for (size_t k = 0; k < p->n_data; k++)
		printf("  %s\n", p->data[k].path);
	printf("Next: %s%s%sfixctl run -c fixd.ini -- %s\n", elsewhere ? "cd " : "", elsewhere ? directory : "", elsewhere ? " && " : "",
	       p->n_suites ? p->suites[0]->command : "make check");
}

static int init(const char *directory, bool dry, bool json)
{
	_cleanup_free_ char *path = strcmp(directory, ".") ? xasprintf("%s/fixd.ini", directory) : xstrdup("fixd.ini"), *ini = NULL;
	struct project p;
	struct stat st;
	int r = stat(directory, &st) == 0 && !S_ISDIR(st.st_mode) ? -ENOTDIR : project_find(&p, directory);

	if (r < 0) {
		fprintf(stderr, "fixctl: %s: %s\n", directory, strerror(-r));
		return EXIT_REFUSED;
	}
	ini = make_ini(&p);
	r = dry ? 0 : write_new(path, ini);
	if (r == -EEXIST)
		fprintf(stderr, "fixctl: %s is there already, and stays as it is; --dry-run shows what would be written\n", path);
	else if (r < 0)
		fprintf(stderr, "fixctl: %s: %s\n", path, strerror(-r));
	else if (dry && !json)
		fputs(ini, stdout);
	else
		init_say(&p, directory, path, json);
	project_deinit(&p);
	return r < 0 ? EXIT_REFUSED : 0;
}

static int init_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "dry-run", no_argument, NULL, 'n' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	bool dry = false;
	int c;

	while ((c = getopt_long(argc, argv, "nj", options, NULL)) >= 0) {
		if (c == 'n')
			dry = true;
		else if (c == 'j')
			ctl->json = true;
		else
			ctl_bad_option("init");
	}
	ctl_expect("init", argc, argv, 0, 1, NULL);
	return init(optind < argc && *argv[optind] ? argv[optind] : ".", dry, ctl->json);
}

const struct fixctl_command command_init = {
	.name = "init",
	.json = true,
	.run = init_run,
	.summary = "write a fixd.ini for a project, to begin with",
	.help = "init [--dry-run] [--json] [DIRECTORY]\n"
		"Looks how the tests of DIRECTORY (default: where you are) are started, and for directories of data, and writes\n"
		"DIRECTORY/fixd.ini with comments. What is there is never overwritten. Needs no daemon.\n"
		"\n"
		"  -n, --dry-run  to standard output instead\n"
		"  -j, --json     what was found, as JSON",
};
