/* SPDX-License-Identifier: MIT */
/*
 * What the imports of a Python program take: python -X importtime (Python's "Command line and environment") writes a line for each
 * module when it is done, after those that it has imported itself:
 *
 *	import time: self [us] | cumulative | imported package
 *	import time:       150 |        150 |   _io
 *	import time:       900 |       1050 | io
 *
 * The depth is in the blanks: two each.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "fixctl/bench.h"
#include "fixctl/fixctl.h"
#include "fixctl/markup.h"

enum { FLAME_WIDTH = 1200, FLAME_HEIGHT = 18, MARGIN = 10, LETTER = 8 };

#define PREFIX "import time:"

struct import {
	char *name;
	unsigned long long self, total; /* us */
	size_t depth;
	size_t *children, n_children;
};

struct imports {
	struct import *all;
	size_t n;
	size_t *open, n_open; /* that nobody has claimed yet, as children */
};

static void free_imports(struct imports *im)
{
	for (size_t k = 0; k < im->n; k++) {
		free(im->all[k].name);
		free(im->all[k].children);
	}
	free(im->all);
	free(im->open);
}

/* Those that were open and lie deeper are its children. */
static void add_import(struct imports *im, struct import i)
{
	size_t first = im->n_open;

	while (first > 0 && im->all[im->open[first - 1]].depth > i.depth)
		first--;
	i.n_children = im->n_open - first;
	i.children = xcalloc(i.n_children + 1, sizeof *i.children);
	for (size_t k = 0; k < i.n_children; k++)
		i.children[k] = im->open[first + k];
	im->n_open = first;
	im->all = xrealloc(im->all, (im->n + 1) * sizeof *im->all);
	im->all[im->n] = i;
	im->open = xrealloc(im->open, (im->n_open + 1) * sizeof *im->open);
	im->open[im->n_open++] = im->n++;
}

/* False: it is a line of something else. */
static bool parse_line(struct imports *im, const char *line)
{
	struct import i = { 0 };
	const char *name;
	int at = 0;

	if (strncmp(line, PREFIX, strlen(PREFIX)) != 0)
		return false;
	if (sscanf(line + strlen(PREFIX), " %llu | %llu |%n", &i.self, &i.total, &at) != 2 || at == 0)
		return true; /* the headline */
	name = line + strlen(PREFIX) + at;
	name += *name == ' ';
	i.depth = strspn(name, " ") / 2;
	name += strspn(name, " ");
	i.name = xstrndup(name, strcspn(name, "\n"));
	add_import(im, i);
	return true;
}

/* a;b;c 150: of every module its own time. */
static void fold(FILE *out, const struct imports *im, size_t k, const char *above)
{
	const struct import *i = &im->all[k];
	_cleanup_free_ char *stack = *above ? xasprintf("%s;%s", above, i->name) : xstrdup(i->name);

	fprintf(out, "%s %llu\n", stack, i->self);
	for (size_t c = 0; c < i->n_children; c++)
		fold(out, im, i->children[c], stack);
}

static size_t height_of(const struct imports *im, const size_t *list, size_t n)
{
	size_t most = 0;

	for (size_t k = 0; k < n; k++) {
		size_t h = 1 + height_of(im, im->all[list[k]].children, im->all[list[k]].n_children);

		most = h > most ? h : most;
	}
	return most;
}

static unsigned hash(const char *s)
{
	unsigned h = 5381;

	while (*s)
		h = h * 33 + (unsigned char)*s++;
	return h;
}

static void put_frame(FILE *out, const char *name, double microseconds, double x, double width, size_t row)
{
	double y = MARGIN + 24 + (double)row * FLAME_HEIGHT;

	fprintf(out, "<g><title>");
	markup_text(out, name);
	fprintf(out,
		" (%.3f ms)</title><rect x=\"%.2f\" y=\"%.0f\" width=\"%.2f\" height=\"%d\" fill=\"hsl(%u,70%%,68%%)\" stroke=\"#ffffff\" stroke-width=\"0.5\"/>",
		microseconds / 1e3, x, y, width, FLAME_HEIGHT - 1, 20 + hash(name) % 35);
	if (width > 3 * LETTER) {
		fprintf(out, "<text x=\"%.2f\" y=\"%.0f\">", x + 3, y + 13);
		markup_end_of(out, name, (size_t)(width / LETTER));
		fputs("</text>", out);
	}
	fputs("</g>\n", out);
}

static void put_frames(FILE *out, const struct imports *im, const size_t *list, size_t n, double x, double scale, size_t row)
{
	for (size_t k = 0; k < n; k++) {
		const struct import *i = &im->all[list[k]];
		double width = (double)i->total * scale;

		if (width >= 0.1) {
			put_frame(out, i->name, (double)i->total, x, width, row);
			put_frames(out, im, i->children, i->n_children, x, scale, row + 1);
		}
		x += width;
	}
}

static void put_flame_graph(FILE *out, const struct imports *im, const char *title)
{
	size_t height = 2 * MARGIN + 24 + (1 + height_of(im, im->open, im->n_open)) * FLAME_HEIGHT;
	double total = 0;

	for (size_t k = 0; k < im->n_open; k++)
		total += (double)im->all[im->open[k]].total;
	fprintf(out,
		"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%zu\" "
		"viewBox=\"0 0 %d %zu\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
		"<text x=\"%d\" y=\"%d\" font-weight=\"bold\">Imports of ",
		FLAME_WIDTH, height, FLAME_WIDTH, height, MARGIN, MARGIN + 12);
	markup_text(out, title);
	fputs("</text>\n", out);
	put_frame(out, "all imports", total, MARGIN, FLAME_WIDTH - 2 * MARGIN, 0);
	if (total > 0)
		put_frames(out, im, im->open, im->n_open, MARGIN, (FLAME_WIDTH - 2 * MARGIN) / total, 1);
	fputs("</svg>\n", out);
}

/* Starts it with its standard error in a pipe, and with the variable that makes Python tell. */
static pid_t imports_start(char **command, int *errors)
{
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		fprintf(stderr, "fixctl: %s cannot be started: %s\n", command[0], strerror(errno));
		return -1;
	}
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		if (fd_dup_to(ends[1], 2) < 0)
			_exit(126);
		setenv("PYTHONPROFILEIMPORTTIME", "1", 1);
		execvp(command[0], command);
		fprintf(stderr, "fixctl: %s: %s\n", command[0], strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	close(ends[1]);
	*errors = ends[0];
	return pid;
}

/* What is not of the imports goes where it would have gone. */
static void read_errors(int fd, struct imports *im, FILE *raw)
{
	FILE *in = fdopen(fd, "re");
	char *line = NULL;
	size_t room = 0;

	while (in && getline(&line, &room, in) > 0) {
		if (parse_line(im, line))
			fputs(line, raw);
		else
			fputs(line, stderr);
	}
	free(line);
	if (in)
		fclose(in);
}

static FILE *create(const char *kind, const char *stamp, const char *suffix, char **path)
{
	FILE *f;

	free(*path);
	*path = xasprintf("imports_%s%s.%s", kind, stamp, suffix);
	f = fopen(*path, "wex");
	if (!f && errno != EEXIST)
		fprintf(stderr, "fixctl: %s cannot be written: %s\n", *path, strerror(errno));
	return f;
}

/* The first of them; of several in one second each has a number. */
static FILE *create_raw(char *stamp, size_t size, char **path)
{
	time_t now = time(NULL);
	struct tm tm;
	size_t n = strftime(stamp, size, "%Y%m%d-%H%M%S", localtime_r(&now, &tm));
	FILE *f = create("raw_", stamp, "txt", path);

	for (int k = 2; !f && errno == EEXIST && k < 1000; k++) {
		snprintf(stamp + n, size - n, "-%d", k);
		f = create("raw_", stamp, "txt", path);
	}
	return f;
}

/* Closes it. */
static bool finish(FILE *f, const char *path)
{
	bool good = f && !ferror(f);

	if (f && fclose(f) != 0)
		good = false;
	if (f && good)
		printf("%s\n", path);
	else if (f)
		fprintf(stderr, "fixctl: %s cannot be written\n", path);
	return good;
}

int bench_imports(char **command)
{
	char stamp[32];
	struct imports im = { 0 };
	_cleanup_free_ char *raw_path = NULL, *folded_path = NULL, *svg_path = NULL;
	FILE *raw, *folded, *svg;
	bool good;
	int errors, status = 0;
	pid_t pid;

	raw = create_raw(stamp, sizeof stamp, &raw_path);
	if (!raw)
		return EXIT_REFUSED;
	/* Interrupted are those who are interrupted: the program ends, and we with it. */
	signal(SIGINT, SIG_IGN);
	pid = imports_start(command, &errors);
	if (pid < 0) {
		fclose(raw);
		return EXIT_REFUSED;
	}
	read_errors(errors, &im, raw);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	good = finish(raw, raw_path);
	folded = create("", stamp, "folded", &folded_path);
	for (size_t k = 0; folded && k < im.n_open; k++)
		fold(folded, &im, im.open[k], "");
	good &= finish(folded, folded_path);
	svg = create("", stamp, "svg", &svg_path);
	if (svg)
		put_flame_graph(svg, &im, command[0]);
	good &= finish(svg, svg_path);
	if (im.n == 0)
		fprintf(stderr, "fixctl: %s has told of no imports: is it a Python program?\n", command[0]);
	free_imports(&im);
	if (WIFSIGNALED(status))
		return 128 + WTERMSIG(status);
	return WEXITSTATUS(status) ? WEXITSTATUS(status) : good ? EXIT_SUCCESS : EXIT_REFUSED;
}
