/* SPDX-License-Identifier: MIT */
#include "fixd/serve/reload.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/link.h"
#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/host/notify.h"
#include "fixd/host/worker.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"

struct reloads {
	struct server *server;
	struct worker *worker;
	struct work_item item; /* in the list of the worker while it reads */
	bool reads;
	struct link now, next; /* who asked before it began, and since then */
	bool again;	       /* somebody has asked since then, though it may have left */
	char *file;
	/* What the thread has found. */
	int err;
	struct config *fresh;
	struct text problems;
};

struct asked_reload {
	struct link link; /* reloads::now or ::next */
	struct unanswered unanswered;
	struct wire_header request;
};

static void reload_free(struct asked_reload *a)
{
	link_remove(&a->link);
	conn_remove_unanswered(&a->unanswered);
	free(a);
}

static void reload_forget(struct unanswered *u)
{
	reload_free(container_of(u, struct asked_reload, unanswered));
}

static void reload_answer(struct asked_reload *a, int err, const struct text *problems)
{
	struct conn *c = a->unanswered.conn;

	if (err < 0)
		conn_reply_error(c, &a->request, err, "the configuration was not read, the old one stays:\n%s", problems->data);
	else
		conn_reply_text(c, &a->request, problems->data, problems->size);
	reload_free(a);
}

/* In the thread. */
static void read_file(void *arg)
{
	struct reloads *r = arg;

	r->err = config_load(r->file, &r->fresh, &r->problems);
	if (r->err == 0)
		config_check_sources(r->fresh, &r->problems);
}

static void begin_reading(struct reloads *r)
{
	r->reads = true;
	r->again = false;
	while (!link_empty(&r->next)) {
		struct link *l = r->next.next;

		link_remove(l);
		link_insert(&r->now, l);
	}
	free(r->file);
	r->file = xstrdup(r->server->model->config->file);
	r->problems.size = 0;
	r->fresh = NULL;
	notify_reloading();
	worker_add(r->worker, &r->item);
}

static void was_read(void *arg)
{
	struct reloads *r = arg;
	const struct control *control = &r->server->control;

	r->reads = false;
	text_add(&r->problems, "", 0);
	control->reload(control->daemon, r->err == 0 ? r->fresh : NULL, &r->problems);
	while (!link_empty(&r->now))
		reload_answer(link_entry(r->now.next, struct asked_reload, link), r->err, &r->problems);
	if (r->server->model->stopping)
		return;
	notify_send("READY=1");
	if (r->again)
		begin_reading(r);
}

struct reloads *reloads_new(struct server *server)
{
	struct reloads *r = xcalloc(1, sizeof *r);

	r->server = server;
	r->worker = worker_new(server->model->loop);
	r->item = (struct work_item){ .work = read_file, .done = was_read, .arg = r };
	link_init(&r->item.link);
	link_init(&r->now);
	link_init(&r->next);
	return r;
}

/* What is still read is the thread's, which ends with the process. */
static struct reloads *abandoned;

struct reloads *reloads_free(struct reloads *r)
{
	if (!r)
		return NULL;
	if (r->reads) {
		worker_abandon(r->worker);
		abandoned = r;
		return NULL;
	}
	worker_free(r->worker);
	text_deinit(&r->problems);
	free(r->file);
	free(r);
	return NULL;
}

void reload_ask(struct server *server, struct conn *c, const struct wire_header *h)
{
	struct reloads *r = server->reloads;

	if (c) {
		struct asked_reload *a = xcalloc(1, sizeof *a);

		a->request = *h;
		link_init(&a->link);
		link_insert(&r->next, &a->link);
		conn_add_unanswered(c, &a->unanswered, reload_forget);
		log_debug("the configuration is read again: asked by pid %d", (int)c->client.pid);
	}
	r->again = true;
	if (!r->reads)
		begin_reading(r);
}

static void each_of(const struct link *asked, const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg)
{
	link_for_each(l, asked) {
		const struct asked_reload *a = link_entry(l, struct asked_reload, link);
		const struct {
			struct wire_header head;
			struct wire_query query;
		} m = { .head = { .type = a->request.type, .size = sizeof m, .id = a->request.id } };

		if (a->unanswered.conn == c)
			fn(&m, sizeof m, arg);
	}
}

void reload_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg)
{
	each_of(&c->server->reloads->now, c, fn, arg);
	each_of(&c->server->reloads->next, c, fn, arg);
}
