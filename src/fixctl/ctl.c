/* SPDX-License-Identifier: MIT */
/* What the commands of fixctl share: asking the daemon, its reports as JSON, printing. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/nearest.h"
#include "base/text.h"
#include "base/units.h"
#include "base/utf8.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/terminal.h"
#include "fixd.h"
#include "image/memfd.h"
#include "wire/record.h"
#include "wire/report.h"

#define REPORT_MS 30000
/* What is torn down for it has time limits of its own. */
#define CLEANUP_MS 600000

/* What comes in a report is shown as it is read: others have written a part of it. */
static bool shows;

struct fixd *ctl_open_to_show(const struct fixctl *ctl)
{
	shows = !ctl->json;
	return ctl_open(ctl);
}

struct fixd *ctl_open(const struct fixctl *ctl)
{
	struct fixd *f;
	int r;

	/* The operator asked for it by name: FIXD_DISABLE is for test suites. */
	unsetenv("FIXD_DISABLE");
	r = fixd_open(&f, ctl->socket);
	if (r == 0 && ctl->session && (r = fixd_join(f, ctl->session, NULL, 0)) < 0)
		exit(ctl_failed(f, r));
	if (r == 0)
		return f;
	fprintf(stderr, "fixctl: %s\n", fixd_error(NULL));
	exit(ctl_open_failed(r));
}

int ctl_open_failed(int err)
{
	switch (err) {
	case -EINVAL: /* the environment */
		return EXIT_USAGE;
	case -ETIMEDOUT:
		return EXIT_TIMED_OUT;
	case -EACCES:
	case -EPROTONOSUPPORT:
		return EXIT_REFUSED;
	default:
		return EXIT_NO_DAEMON;
	}
}

int ctl_failed(const struct fixd *f, int err)
{
	const char *sentence = fixd_error(f);
	_cleanup_free_ char *plain = terminal_plain(sentence, strlen(sentence), true);

	fprintf(stderr, "fixctl: %s\n", plain);
	switch (err) {
	case -EIO:
		return EXIT_BUILD_FAILED;
	case -ETIMEDOUT:
		return EXIT_TIMED_OUT;
	case -ECONNRESET:
	case -EPIPE:
	case -ECONNREFUSED:
		return EXIT_NO_DAEMON;
	default:
		return EXIT_REFUSED;
	}
}

void ctl_print_help(const struct fixctl_command *c)
{
	_cleanup_free_ char *text = xasprintf("Usage: fixctl %s", c->help);

	terminal_print_help(text, terminal_width());
}

static void try_help(const char *command)
{
	fprintf(stderr, "Try 'fixctl %s%s'.\n", command ? "help " : "--help", command ? command : "");
	exit(EXIT_USAGE);
}

void ctl_misuse(const char *command, const char *fmt, ...)
{
	va_list ap;

	fputs("fixctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	try_help(command);
	abort();
}

void ctl_expect(const char *command, int argc, char **argv, int least, int most, const char *missing)
{
	if (argc - optind < least)
		ctl_misuse(command, "%s is missing", missing);
	if (argc - optind > most)
		ctl_misuse(command, "unexpected argument '%s'", argv[optind + most]);
	/* As of a variable that is not set: that does not mean everything. */
	for (int i = optind; i < argc; i++) {
		if (!*argv[i])
			ctl_misuse(command, "an empty argument: leave it out, or say a name");
	}
}

void ctl_bad_option(const char *command)
{
	try_help(command);
	abort();
}

/* The memfd of a report, read whole. */
static int read_report(struct fixd *f, struct reply *r, char **out, size_t *out_size)
{
	struct wire_report head;
	uint64_t size = 0;
	char *data;

	if (r->size != sizeof head || r->n_fds != 1 || memfd_verify(r->fds[0], &size) < 0) {
		reply_close(r);
		return ctl_failed(f, fixd_fail_with(f, -EPROTO, "the daemon sent a malformed report"));
	}
	data = xcalloc(1, size + 1);
	if (fd_pread_all(r->fds[0], data, size, 0) != (ssize_t)size)
		size = 0;
	reply_close(r);
	*out = data;
	*out_size = size;
	return 0;
}

int ctl_report_text(struct fixd *f, uint16_t type, const void *body, size_t size, char **out, size_t *out_size)
{
	struct reply reply;
	int r = connection_request(f, type, body, size, type == WIRE_TYPE_cleanup ? CLEANUP_MS : REPORT_MS, &reply);

	return r < 0 ? ctl_failed(f, r) : read_report(f, &reply, out, out_size);
}

static json_t *ctl_value_of(const struct record *r, bool *bad);

static json_t *object_of(struct record_reader in, bool *bad)
{
	json_t *object = json_object();
	struct record r;

	while (record_next(&in, &r, bad)) {
		const char *name = report_field_name(r.field);

		if (name)
			json_object_set_new(object, name, ctl_value_of(&r, bad));
	}
	return object;
}

static json_t *list_of(struct record_reader in, bool *bad)
{
	json_t *list = json_array();
	struct record r;

	while (record_next(&in, &r, bad))
		json_array_append_new(list, ctl_value_of(&r, bad));
	return list;
}

json_t *ctl_name(const char *s)
{
	return ctl_text(s, strlen(s));
}

json_t *ctl_text(const char *data, size_t size)
{
	json_t *s = json_stringn(data, size);
	_cleanup_text_ struct text t = { 0 };

	for (size_t at = 0; !s && at < size;) {
		size_t n = utf8_length(data + at, size - at);

		text_add(&t, n ? data + at : "\xef\xbf\xbd", n ? n : 3);
		at += n ? n : 1;
	}
	return s ? s : json_stringn_nocheck(t.data ? t.data : "", t.size);
}

/* Sentences may have several lines; a line break in anything else would be taken for a line of ours. */
static bool may_have_lines(uint16_t field)
{
	static const uint16_t fields[] = { REPORT_DOC,	       REPORT_POLICY,	 REPORT_ERROR, REPORT_STALE_CAUSE, REPORT_TEARDOWN_ERROR,
					   REPORT_RETRY_CAUSE, REPORT_IO_REASON, REPORT_ERRORS };
	size_t k = 0;

	while (k < ELEMENTSOF(fields) && fields[k] != field)
		k++;
	return k < ELEMENTSOF(fields);
}

static json_t *string_of(const struct record *r)
{
	_cleanup_free_ char *plain = shows ? terminal_plain(r->data, r->size, may_have_lines(r->field)) : NULL;

	return plain ? ctl_text(plain, strlen(plain)) : ctl_text(r->data, r->size);
}

static json_t *ctl_value_of(const struct record *r, bool *bad)
{
	switch (r->kind) {
	case RECORD_U64:
		return json_integer((json_int_t)r->number);
	case RECORD_TIME:
		return json_real((double)(int64_t)r->number / NSEC_PER_SEC);
	case RECORD_BOOL:
		return json_boolean(r->number != 0);
	case RECORD_STRING:
		return string_of(r);
	case RECORD_OBJECT:
		return object_of(record_inside(r), bad);
	case RECORD_LIST:
		return list_of(record_inside(r), bad);
	default:
		return json_null();
	}
}

int ctl_report(struct fixd *f, uint16_t type, const void *body, size_t size, json_t **out)
{
	_cleanup_free_ char *data = NULL;
	size_t n;
	bool bad = false;
	int code = ctl_report_text(f, type, body, size, &data, &n);

	if (code)
		return code;
	*out = object_of((struct record_reader){ data, n }, &bad);
	if (!bad)
		return 0;
	json_decref(*out);
	return ctl_failed(f, fixd_fail_with(f, -EPROTO, "the daemon sent a malformed report"));
}

int ctl_query(struct fixd *f, uint16_t type, const char *pattern, json_t **out)
{
	char body[sizeof(struct wire_query) + WIRE_NAME_MAX];
	size_t n = strlen(pattern);
	struct wire_query q = { .pattern = (uint16_t)n };

	if (n > WIRE_NAME_MAX)
		ctl_misuse(NULL, "a name has at most %d bytes", WIRE_NAME_MAX);
	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, pattern, n);
	return ctl_report(f, type, body, sizeof q + n, out);
}

int ctl_events(struct fixd *f, uint64_t *from, unsigned wait_ms, json_t **out)
{
	struct wire_events q = { .from = *from, .wait_ms = wait_ms };
	int code = ctl_report(f, WIRE_TYPE_events, &q, sizeof q, out);

	if (code == 0)
		*from = (uint64_t)ctl_int(*out, "next");
	return code;
}

int ctl_unknown(struct fixd *f, const char *pattern)
{
	_cleanup_free_ char *name = xstrndup(pattern, strcspn(pattern, "[")), *question = NULL;
	_cleanup_text_ struct text all = { 0 };
	json_t *list;
	int code = ctl_query(f, WIRE_TYPE_list, "", &list);
	const json_t *fixtures;

	if (code)
		return code;
	text_puts(&all, "");
	fixtures = json_object_get(list, "fixtures");
	for (size_t k = 0; k < json_array_size(fixtures); k++)
		text_printf(&all, "%s,", ctl_string(json_array_get(fixtures, k), "name"));
	json_decref(list);
	question = nearest_question(name, all.data);
	fprintf(stderr, "fixctl: nothing is called '%s'%s\n", pattern, question);
	return EXIT_REFUSED;
}

int ctl_known(const struct fixctl *ctl, const char *pattern)
{
	struct fixd *f = ctl_open(ctl);
	json_t *list = NULL;
	int code = ctl_query(f, WIRE_TYPE_list, pattern, &list);

	if (code == 0 && json_array_size(json_object_get(list, "fixtures")) == 0)
		code = ctl_unknown(f, pattern);
	fixd_close(f);
	json_decref(list);
	return code;
}

void ctl_print_json(const json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(16));
	putchar('\n');
}

const char *ctl_string(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

int64_t ctl_int(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

double ctl_real(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

const char *ctl_color(const char *code)
{
	static int wanted = -1;

	if (wanted < 0) {
		const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");

		wanted = isatty(STDOUT_FILENO) && !(no && *no) && !(terminal && !strcmp(terminal, "dumb"));
	}
	return wanted ? code : "";
}

char *ctl_span(char *buf, size_t n, double seconds)
{
	if (seconds >= 60)
		return format_duration(buf, n, (int64_t)seconds * NSEC_PER_SEC);
	snprintf(buf, n, "%d s", (int)seconds);
	return buf;
}

char *ctl_time(char *buf, size_t n, double seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	localtime_r(&t, &tm);
	strftime(buf, n, "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}
