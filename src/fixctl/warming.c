/* SPDX-License-Identifier: MIT */
#include "fixctl/warming.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/history.h"
#include "fixctl/transfers.h"
#include "fixd.h"

#define REDRAW_MS 200
/* Requests on their way at once; the daemon bounds them, too. */
#define WINDOW 64

struct target {
	const char *name;
	uint64_t id;
	int64_t started;
	bool done;
};

struct state {
	const struct warming *w;
	struct target *all;
	size_t sent, done;
	bool progress;	   /* `out` is a terminal */
	struct fixd *asks; /* how far it is; or NULL */
	int code;
};

static int send_target(struct state *s, struct target *t)
{
	char body[WIRE_MESSAGE_MAX];
	ssize_t size = connection_attach_body(s->w->f, body, t->name, NULL, WIRE_ATTACH_WARM, s->w->timeout_ms, NULL, 0);

	if (size < 0)
		return (int)size;
	t->started = clock_now();
	return connection_send(s->w->f, WIRE_TYPE_attach, body, (size_t)size, &t->id);
}

static struct target *find_target(struct state *s, uint64_t id)
{
	for (size_t i = 0; i < s->sent; i++) {
		if (s->all[i].id == id)
			return &s->all[i];
	}
	return NULL;
}

static void clear_line(const struct state *s)
{
	if (s->progress)
		fputs("\r\033[K", s->w->out);
}

static void print_object(const struct warming *w, const char *name, const char *state, json_t *more)
{
	json_t *o = json_pack("{s:o, s:s}", "name", ctl_name(name), "state", state);
	char *text;

	json_object_update(o, more);
	text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(16));
	fprintf(w->out, "%s\n", text);
	free(text);
	json_decref(more);
	json_decref(o);
}

void warming_skip(const struct warming *w, const char *name, const char *why, ...)
{
	_cleanup_free_ char *sentence = NULL;
	va_list ap;

	va_start(ap, why);
	sentence = xvasprintf(why, ap);
	va_end(ap);
	if (w->json)
		print_object(w, name, "skipped", json_pack("{s:o}", "error", ctl_name(sentence)));
	else
		fprintf(w->out, "%s: skipped, %s\n", name, sentence);
}

/* Nobody waits for it any more, but it goes on. */
static const char *word_of(int r)
{
	return r == -ETIMEDOUT ? "building" : r < 0 ? "failed" : "ready";
}

static void report_json(struct state *s, struct target *t, int r, uint32_t flags)
{
	json_t *more = json_pack("{s:b, s:f}", "built", flags & WIRE_ATTACHED_BUILT ? 1 : 0, "seconds",
				 (double)(clock_now() - t->started) / NSEC_PER_SEC);

	if (r < 0)
		json_object_set_new(more, "error", ctl_name(fixd_error(s->w->f)));
	print_object(s->w, t->name, word_of(r), more);
}

static void report(struct state *s, struct target *t, int r, const struct reply *reply)
{
	char took[32];
	struct wire_attached head = { 0 };

	t->done = true;
	s->done++;
	clear_line(s);
	if (r < 0) {
		if (s->w->json)
			report_json(s, t, r, 0);
		else if (s->w->lines)
			fprintf(s->w->out, "%s: %s%s%s\n", t->name, r == -ETIMEDOUT ? YELLOW : RED, word_of(r), PLAIN);
		fflush(s->w->out);
		r = ctl_failed(s->w->f, r);
		s->code = s->code ? s->code : r;
		return;
	}
	if (reply->size >= sizeof head)
		memcpy(&head, reply->body, sizeof head);
	if (s->w->json)
		report_json(s, t, 0, head.flags);
	else if (!s->w->lines)
		; /* who asked for these goes on by himself */
	else if (head.flags & WIRE_ATTACHED_BUILT)
		fprintf(s->w->out, "%s: %sready%s after %s\n", t->name, GREEN, PLAIN,
			format_duration(took, sizeof took, clock_now() - t->started));
	else
		fprintf(s->w->out, "%s: %sready%s\n", t->name, GREEN, PLAIN);
	fflush(s->w->out);
}

/* Over a connection of its own, because this one waits for builds. */
static bool can_ask(struct state *s)
{
	return s->asks || fixd_open(&s->asks, s->w->f->path) == 0;
}

/* ", some 5 s to go", as the last build of it tells, if this one has begun: it may wait for others. Or nothing. */
static void put_rest(struct state *s, const struct target *t)
{
	struct history *h = s->w->history;
	double now = (double)clock_real() / NSEC_PER_SEC, began, took, since;
	char rest[32];

	if (!h || !can_ask(s) || history_read(h, s->asks))
		return;
	began = history_began(h, NULL, t->name);
	took = history_took(h, NULL, t->name);
	since = now > began ? now - began : 0;
	if (began > 0 && took > since)
		fprintf(s->w->out, ", some %s to go", ctl_span(rest, sizeof rest, took - since + 1));
}

/* What comes from the remote; NULL: it does not. */
static char *download_of(struct state *s, const struct target *t)
{
	json_t *status = NULL;
	char *words = NULL;

	if (!can_ask(s))
		return NULL;
	if (ctl_query(s->asks, WIRE_TYPE_status, t->name, &status) == 0)
		words = transfers_of_build(status, t->name);
	json_decref(status);
	return words;
}

/* One line that is drawn again: how many, and what is being waited for. */
static void warming_draw(struct state *s)
{
	const struct target *oldest = NULL;
	_cleanup_free_ char *words = NULL;
	char since[32];

	for (size_t i = 0; i < s->sent && !oldest; i++) {
		if (!s->all[i].done)
			oldest = &s->all[i];
	}
	if (!s->progress || !oldest)
		return;
	words = download_of(s, oldest);
	ctl_span(since, sizeof since, (double)(clock_now() - oldest->started) / NSEC_PER_SEC);
	if (words)
		fprintf(s->w->out, "\r\033[K%zu of %zu, %s, %s", s->done, s->w->n, words, since);
	else
		fprintf(s->w->out, "\r\033[K%zu of %zu, building %s, %s", s->done, s->w->n, oldest->name, since);
	if (!words)
		put_rest(s, oldest);
	fflush(s->w->out);
}

/* The daemon answers every request in time, if only that it took too long. */
static bool overdue(const struct state *s)
{
	for (size_t i = 0; i < s->sent; i++) {
		if (!s->all[i].done)
			return clock_now() - s->all[i].started > (s->w->timeout_ms + INT64_C(5000)) * NSEC_PER_MSEC;
	}
	return false;
}

/* Takes one answer, or redraws. 0, or -errno when the daemon is lost. */
static int take_answer(struct state *s)
{
	struct reply reply = { .wanted = 0 };
	struct target *t;
	uint64_t id = 0;
	/* The daemon answers in time by itself; a terminal is redrawn meanwhile. */
	int r = connection_receive(s->w->f, s->progress ? REDRAW_MS : s->w->timeout_ms + 5000, &id, &reply);

	if (id == 0 && r == -ETIMEDOUT && s->progress && !overdue(s)) {
		warming_draw(s);
		return 0;
	}
	if (id == 0)
		return r;
	t = find_target(s, id);
	if (t && r == -ENOKEY && variables_learn(&s->w->f->variables, t->name, s->w->f->error))
		return send_target(s, t);
	if (t)
		report(s, t, r, &reply);
	if (r == 0)
		reply_close(&reply);
	return 0;
}

int warming_run(const struct warming *w)
{
	struct state s = { .w = w, .all = xcalloc(w->n, sizeof *s.all), .progress = isatty(fileno(w->out)) && !w->json };
	int r = 0;

	for (size_t i = 0; i < w->n; i++)
		s.all[i].name = w->names[i];
	while (r == 0 && s.done < w->n) {
		while (r == 0 && s.sent < w->n && s.sent - s.done < WINDOW)
			r = send_target(&s, &s.all[s.sent++]);
		if (r == 0)
			r = take_answer(&s);
	}
	clear_line(&s);
	fflush(w->out);
	free(s.all);
	if (s.asks)
		fixd_close(s.asks);
	return r < 0 ? ctl_failed(w->f, r) : s.code;
}
