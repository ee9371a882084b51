/* SPDX-License-Identifier: MIT */
#include "fixd/serve/event_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/model/event_log.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"
#include "fixd/serve/unread.h"
#include "wire/record.h"
#include "wire/report.h"

/* Bytes of the log in one answer: whoever wants all asks several times. */
#define ANSWER_MAX ((uint64_t)64 << 10)
/* What happens in quick succession is told together. */
#define GATHER (20 * NSEC_PER_MSEC)
/* Who has not read its answers (unread.h) is asked again so much later. */
#define READ_AGAIN (20 * NSEC_PER_MSEC)
/* So many are told in one turn of the loop. */
#define TOLD_MAX 16

/* A connection that waits for the next event. */
struct follower {
	struct link link; /* server::followers */
	struct unanswered unanswered;
	struct conn *conn;
	struct wire_header request;
	uint64_t from;	 /* number */
	uint64_t looked; /* position that the log ended at when it was last looked for something */
	struct timer limit;
	struct timer again; /* when it may have read what it was told before */
};

static bool may_read(const struct conn *c, const struct event *v, const char *session)
{
	if (c->client.session && (v->words[EVENT_SESSION] != strlen(c->client.session->id) ||
				  memcmp(session, c->client.session->id, strlen(c->client.session->id)) != 0))
		return false;
	return c->client.owner || v->uid == EVENT_FOR_ALL || v->uid == c->client.uid;
}

static void put_word(struct text *out, uint16_t field, const char *s, size_t n)
{
	_cleanup_free_ char *word = xstrndup(s, n);

	if (n)
		record_string(out, field, word);
}

/* The text of each kind has a name of its own; those of status where it has one. */
static void put_text(struct text *out, enum event_kind kind, const char *s, size_t n)
{
	_cleanup_free_ char *text = xstrndup(s, n);
	char **list;
	size_t mark;

	switch (kind) {
	case EVENT_READY:
		list = list_split(text);
		mark = record_begin(out, REPORT_DEPENDS, RECORD_LIST);
		for (size_t k = 0; list[k]; k++)
			record_string(out, REPORT_DEPENDS, list[k]);
		record_end(out, mark);
		list_free(list);
		break;
	case EVENT_STALE:
		record_string(out, REPORT_STALE_CAUSE, text);
		break;
	case EVENT_USED:
		if (n)
			record_string(out, REPORT_WRITER, text);
		break;
	default:
		if (n)
			record_string(out, REPORT_ERROR, text);
	}
}

static void put_event(struct text *out, const struct event *v)
{
	static const char *const kinds[EVENT_KINDS] = {
		[EVENT_ATTACH] = "attach",	 [EVENT_DETACH] = "detach",	    [EVENT_BUILD] = "build",
		[EVENT_READY] = "ready",	 [EVENT_FAILED] = "failed",	    [EVENT_STALE] = "stale",
		[EVENT_RESET] = "reset",	 [EVENT_TORN_DOWN] = "torn-down",   [EVENT_RUN_BEGAN] = "run-began",
		[EVENT_RUN_ENDED] = "run-ended", [EVENT_CHANGED] = "changed",	    [EVENT_USED] = "used",
		[EVENT_DOWNLOAD] = "download",	 [EVENT_DOWNLOADED] = "downloaded", [EVENT_UPLOAD] = "upload",
		[EVENT_UPLOADED] = "uploaded",
	};
	static const uint16_t fields[] = { REPORT_NAME, REPORT_SESSION, REPORT_RUN, REPORT_TEST };
	const char *word = (const char *)(v + 1);
	size_t mark = record_begin(out, REPORT_EVENTS, RECORD_OBJECT);

	record_u64(out, REPORT_NUMBER, v->number);
	record_time(out, REPORT_TIME, v->at);
	record_string(out, REPORT_EVENT, kinds[v->kind]);
	for (size_t k = 0; k < ELEMENTSOF(fields); k++) {
		put_word(out, fields[k], word, v->words[k]);
		word += v->words[k];
	}
	if (v->words[EVENT_TITLE])
		record_string(out, REPORT_SCOPE, scope_name(v->scope));
	put_text(out, v->kind, word, v->words[EVENT_TEXT]);
	if (v->pid)
		record_u64(out, REPORT_PID, v->pid);
	if (v->generation)
		record_u64(out, REPORT_GENERATION, v->generation);
	if (v->kind == EVENT_ATTACH)
		record_bool(out, REPORT_BUILT, v->built);
	if (v->kind >= EVENT_DOWNLOAD && v->kind <= EVENT_UPLOADED)
		record_u64(out, REPORT_SIZE, v->bytes);
	if (v->kind == EVENT_DOWNLOADED || v->kind == EVENT_UPLOADED)
		record_time(out, REPORT_TOOK, v->took);
	if (v->kind == EVENT_READY) {
		record_u64(out, REPORT_SIZE, v->bytes);
		record_time(out, REPORT_BUILD_TIME, v->took);
		record_time(out, REPORT_BUILD_CPU, (int64_t)v->cpu);
		record_u64(out, REPORT_BUILD_PEAK, v->peak);
	} else if (v->kind == EVENT_ATTACH || v->kind == EVENT_DETACH) {
		record_time(out, REPORT_TOOK, v->took);
	}
	if (v->kind == EVENT_DETACH || v->kind == EVENT_CHANGED) {
		record_u64(out, REPORT_OF, v->of);
		record_u64(out, REPORT_PAGES, v->pages);
	}
	if (v->kind == EVENT_DETACH) {
		record_u64(out, REPORT_RESETS, v->resets);
		record_u64(out, REPORT_DIRTY, v->dirty);
	}
	record_end(out, mark);
}

/* False: there is nothing for this connection; *from, a number, has moved on behind what it may not see. */
static bool follower_read_events(const struct conn *c, uint64_t *from, struct text *out)
{
	const struct events *e = c->server->model->events;
	bool lost;
	uint64_t at = events_find(e, *from ? *from : 1, &lost), next = events_end_at(e);
	size_t n = 0, list = record_begin(out, REPORT_EVENTS, RECORD_LIST);

	for (uint64_t end = at + ANSWER_MAX; at < next && at < end;) {
		const struct event *v = event_at(e, at);

		at += v->size;
		*from = v->number + 1;
		if (!may_read(c, v, (const char *)(v + 1) + v->words[EVENT_TITLE]))
			continue;
		put_event(out, v);
		n++;
	}
	record_end(out, list);
	record_u64(out, REPORT_NEXT, *from);
	record_bool(out, REPORT_MORE, at < next);
	record_bool(out, REPORT_LOST, lost);
	return n > 0 || at < next;
}

enum follower_result { FOLLOWER_ANSWERED, FOLLOWER_WAITS, FOLLOWER_HAS_TO_READ };

/* With what there is, even nothing if that is `enough`. */
static enum follower_result follower_answer(struct conn *c, const struct wire_header *h, uint64_t *from, bool enough)
{
	_cleanup_text_ struct text out = { 0 };
	struct unread *unread = NULL;
	bool may = unread_begin(c, &unread), any = may && follower_read_events(c, from, &out);

	if (!may || (!any && !enough)) {
		unread_cancel(unread);
		return may ? FOLLOWER_WAITS : FOLLOWER_HAS_TO_READ;
	}
	unread_sent(unread, out.size);
	conn_reply_text(c, h, out.data, out.size);
	return FOLLOWER_ANSWERED;
}

static void follower_free(struct follower *f)
{
	timer_stop(&f->limit);
	timer_stop(&f->again);
	link_remove(&f->link);
	conn_remove_unanswered(&f->unanswered);
	free(f);
}

static void follower_forget(struct unanswered *u)
{
	follower_free(container_of(u, struct follower, unanswered));
}

static void follower_give_up(void *arg)
{
	struct follower *f = arg;

	if (follower_answer(f->conn, &f->request, &f->from, true) == FOLLOWER_ANSWERED)
		follower_free(f);
	else
		timer_start_in(f->conn->server->model->loop, &f->limit, READ_AGAIN);
}

static void follower_try(void *arg)
{
	struct follower *f = arg;
	enum follower_result r = follower_answer(f->conn, &f->request, &f->from, false);

	if (r == FOLLOWER_ANSWERED)
		follower_free(f);
	else if (r == FOLLOWER_HAS_TO_READ)
		timer_start_in(f->conn->server->model->loop, &f->again, READ_AGAIN);
}

void event_stream_ask(struct conn *c, const struct wire_header *h, uint64_t from, uint32_t wait_ms)
{
	struct server *server = c->server;
	bool enough = wait_ms == 0 || server->model->restarting || server->model->stopping;
	enum follower_result r = follower_answer(c, h, &from, enough);
	struct follower *f;

	if (r == FOLLOWER_ANSWERED)
		return;
	f = xcalloc(1, sizeof *f);
	f->conn = c;
	f->request = *h;
	f->from = from;
	conn_add_unanswered(c, &f->unanswered, follower_forget);
	link_insert(&server->followers, &f->link);
	server->model->events_followed = true;
	timer_init(&f->limit, follower_give_up, f);
	timer_init(&f->again, follower_try, f);
	timer_start_in(server->model->loop, &f->limit, enough ? READ_AGAIN : wait_ms * NSEC_PER_MSEC);
	if (r == FOLLOWER_HAS_TO_READ)
		timer_start_in(server->model->loop, &f->again, READ_AGAIN);
}

void event_stream_added(void *arg)
{
	struct server *server = arg;

	server->model->events_followed = !link_empty(&server->followers);
	if (server->model->events_followed && !timer_is_running(&server->gathering))
		timer_start_in(server->model->loop, &server->gathering, GATHER);
}

void event_stream_tell(void *arg)
{
	struct server *server = arg;
	uint64_t end = events_end_at(server->model->events);

	for (int n = 0; n < TOLD_MAX && !link_empty(&server->followers); n++) {
		struct follower *f = link_entry(server->followers.next, struct follower, link);

		/* Everybody was looked after. */
		if (f->looked == end)
			return;
		f->looked = end;
		link_remove(&f->link);
		link_insert(&server->followers, &f->link);
		if (!timer_is_running(&f->again))
			follower_try(f);
	}
	if (!link_empty(&server->followers))
		loop_defer(server->model->loop, &server->telling);
}

void event_stream_end(struct server *server)
{
	while (!link_empty(&server->followers)) {
		struct follower *f = link_entry(server->followers.next, struct follower, link);

		/* Who has not read what it was told before asks anew. */
		if (follower_answer(f->conn, &f->request, &f->from, true) != FOLLOWER_ANSWERED)
			conn_reply_error(f->conn, &f->request, -EAGAIN, "there is more to read before this");
		follower_free(f);
	}
}
