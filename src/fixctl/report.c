/* SPDX-License-Identifier: MIT */
#include "fixctl/report.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "fixctl/bench.h"
#include "fixctl/fixctl.h"
#include "fixctl/output.h"
#include "fixd.h"
#include "wire/wire.h"

enum format { FORMAT_MARKDOWN, FORMAT_JSON, FORMAT_HTML };

static int read_events(struct fixd *f, struct report_sources *s)
{
	uint64_t from = 0;
	bool more = true;
	int code = 0;

	s->events = json_array();
	while (code == 0 && more) {
		json_t *page = NULL;
		const json_t *events;

		code = ctl_events(f, &from, 0, &page);
		events = json_object_get(page, "events");
		for (size_t k = 0; k < json_array_size(events); k++) {
			if (ctl_real(json_array_get(events, k), "time") >= s->since)
				json_array_append(s->events, json_array_get(events, k));
		}
		s->lost |= json_is_true(json_object_get(page, "lost"));
		more = json_is_true(json_object_get(page, "more"));
		json_decref(page);
	}
	return code;
}

static void write_report(FILE *out, enum format format, const json_t *report, const struct report_sources *s)
{
	switch (format) {
	case FORMAT_JSON:
		json_dumpf(report, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(16));
		putc('\n', out);
		break;
	case FORMAT_HTML:
		report_write_html(out, report, s);
		break;
	default:
		report_write_markdown(out, report);
	}
}

static int report_write_file(const char *path, enum format format, const json_t *report, const struct report_sources *s)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	int r = out ? 0 : -errno;

	if (out) {
		write_report(out, format, report, s);
		r = fclose(out) == 0 ? output_write(path, text, size) : -errno;
	}
	if (r == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "fixctl: %s cannot be written: %s\n", path, strerror(-r));
	return EXIT_REFUSED;
}

static enum format report_parse_format(const char *s)
{
	static const char *const names[] = { "markdown", "json", "html" };

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		if (!strcmp(s, names[i]))
			return (enum format)i;
	}
	ctl_misuse("report", "--format=%s: expected one of markdown, json, html", s);
}

static int report_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "format", required_argument, NULL, 'f' },
		{ "since", required_argument, NULL, 's' },
		{ "session", required_argument, NULL, 'S' },
		{ "output", required_argument, NULL, 'o' },
		{ "bench", required_argument, NULL, 'b' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	enum format format = ctl->json ? FORMAT_JSON : FORMAT_MARKDOWN;
	struct report_sources s = { .now = (double)clock_real() / NSEC_PER_SEC };
	_cleanup_free_ char *root = NULL;
	const char *path = NULL;
	int64_t since;
	struct fixd *f;
	int c, code;

	while ((c = getopt_long(argc, argv, "f:s:S:o:b:j", options, NULL)) >= 0) {
		switch (c) {
		case 'f':
			format = report_parse_format(optarg);
			break;
		case 's':
			if (parse_duration(optarg, &since) < 0)
				ctl_misuse("report", "--since %s: expected a number with ms, s, m or h", optarg);
			s.since = s.now - (double)since / NSEC_PER_SEC;
			break;
		case 'S':
			ctl->session = optarg;
			break;
		case 'o':
			path = optarg;
			break;
		case 'b':
			json_decref(s.bench);
			s.bench = bench_load("report", "--bench", optarg);
			break;
		case 'j':
			format = FORMAT_JSON;
			break;
		default:
			ctl_bad_option("report");
		}
	}
	ctl_expect("report", argc, argv, 0, 0, NULL);
	ctl->json = format == FORMAT_JSON;
	f = ctl_open_to_show(ctl);
	s.root = root = ctl->session ? realpath(ctl->session, NULL) : NULL;
	code = ctl_query(f, WIRE_TYPE_list, "", &s.list);
	if (code == 0)
		code = ctl_query(f, WIRE_TYPE_status, "", &s.status);
	if (code == 0)
		code = read_events(f, &s);
	fixd_close(f);
	if (code == 0) {
		json_t *report = report_make(&s);

		if (path)
			code = report_write_file(path, format, report, &s);
		else
			write_report(stdout, format, report, &s);
		json_decref(report);
	}
	json_decref(s.list);
	json_decref(s.status);
	json_decref(s.events);
	json_decref(s.bench);
	return code;
}

const struct fixctl_command command_report = {
	.name = "report",
	.json = true,
	.run = report_run,
	.summary = "what fixtures cost, and what sharing them saves",
	.help = "report [--format=markdown|json|html] [--since D] [--session DIR] [--bench FILE] [--output FILE]\n"
		"Reports on all fixtures, from what has really happened: which are used, how long they take, how much they\n"
		"keep, what their reuse has saved, and which could be removed.\n"
		"\n"
		"  -f, --format=FORMAT  markdown (default), json, or html: one file that needs nothing else\n"
		"  -s, --since D        only what has happened in that time (30s, 10m, 2h)\n"
		"  -S, --session DIR    only your session of that directory\n"
		"  -b, --bench FILE     time, memory and GPU memory as fixctl bench --json has measured them\n"
		"  -o, --output FILE    there, all or nothing, not on standard output\n"
		"  -j, --json           the same as --format=json; the keys are in fixctl(1)",
};
