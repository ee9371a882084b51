/* SPDX-License-Identifier: MIT */
#include "fixd/serve/cleanup.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "base/vector.h"
#include "config/config.h"
#include "fixd/host/watch.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/pool.h"
#include "fixd/model/session.h"
#include "fixd/model/visibility.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/server.h"
#include "fixd/serve/task.h"
#include "fixd/serve/walk.h"
#include "fixd/work/keeper.h"
#include "wire/record.h"
#include "wire/report.h"

struct cleanup {
	struct link link; /* server::cleanups */
	struct server *server;
	uint64_t conn; /* it may be gone */
	struct wire_header request;
	struct text removed, kept, errors;
	uint64_t freed; /* bytes */
	size_t n_waits; /* for so many teardowns, and for the task */
};

/* An instance that there was: it may have gone since. */
struct seen {
	uint64_t session; /* number */
	char *key, *title;
	bool removed;
};

/* What is asked for: first it is noted what there is, then what is wanted is given up, then it is looked what has gone. */
struct cleaning {
	struct task task;
	struct cleanup *cleanup;
	char **patterns;
	uint32_t flags;
	int64_t older_than;
	int64_t asked;
	struct walk walk;
	struct vector seen;
	enum { NOTING, GIVING_UP, LOOKING } phase;
	size_t next;
};

static bool cleanup_is_there(const struct instance *i)
{
	return i && (i->current || i->state == INSTANCE_FAILED);
}

static struct instance *cleanup_find(const struct cleaning *t, const struct seen *e)
{
	const struct session *s = session_by_number(t->task.conn->server->model, e->session);

	return s ? session_by_key(s, e->key) : NULL;
}

static bool cleanup_is_wanted(const struct cleaning *t, struct instance *i)
{
	if (!cleanup_is_there(i) || !see_named_any(t->patterns, i))
		return false;
	if ((t->flags & WIRE_CLEANUP_FAILED) && i->state != INSTANCE_FAILED)
		return false;
	if ((t->flags & WIRE_CLEANUP_UNUSED) && !(i->current && i->current->attaches == 0))
		return false;
	if ((t->flags & WIRE_CLEANUP_STALE) && !instance_is_stale(i, t->asked))
		return false;
	return t->older_than < 0 || (i->current && clock_now() - i->current->created > t->older_than);
}

/* All of its clones: those that are ready go, and no other one is started before somebody asks. */
static bool cleanup_empties(const struct cleaning *t, const struct instance *i)
{
	return i->pool && t->older_than < 0 && !(t->flags & (WIRE_CLEANUP_FAILED | WIRE_CLEANUP_UNUSED | WIRE_CLEANUP_STALE)) &&
	       see_named_any(t->patterns, i);
}

static bool note_step(struct cleaning *t)
{
	struct session *s;
	struct instance *i;
	enum walk_step step = walk_next(&t->walk, t->task.conn, &s, &i);

	if (step == WALK_INSTANCE && cleanup_empties(t, i))
		pool_rest(i->pool);
	if (step == WALK_INSTANCE && cleanup_is_there(i) && see_instance(&t->task.conn->client, i)) {
		struct seen *e = xcalloc(1, sizeof *e);

		e->session = s->number;
		e->key = xstrdup(i->key);
		e->title = xstrdup(i->title);
		vector_add(&t->seen, e);
	}
	return step == WALK_ENDS;
}

static void on_cleanup_torn_down(void *arg, const char *title, const char *wrong);

/* For all that is, or will be, torn down without anybody having to let go of it. */
static void wait_for_teardowns(struct cleanup *c)
{
	link_for_each(l, &c->server->work->keepers) {
		struct keeper *k = link_entry(l, struct keeper, link);
		const struct image *im = k->image;

		if (!im || k->on_end || im->n_uses || (im->instance && im->instance->current == im))
			continue;
		k->on_end = on_cleanup_torn_down;
		k->on_end_arg = c;
		c->freed += im->bytes;
		c->n_waits++;
	}
}

static void cleanup_give_up(const struct cleaning *t, struct seen *e)
{
	struct cleanup *c = t->cleanup;
	struct instance *i = cleanup_find(t, e);
	uint64_t before = c->server->model->account.bytes;
	bool torn_down;

	if (!cleanup_is_wanted(t, i))
		return;
	if (i->current && i->current->n_uses && !(t->flags & WIRE_CLEANUP_FORCE)) {
		record_string(&c->kept, REPORT_KEPT, i->title);
		return;
	}
	torn_down = i->current && (i->current->kept_by || i->current->n_teardown_deps);
	/* What is only stale is right again elsewhere. */
	if (t->flags & WIRE_CLEANUP_STALE)
		instance_retire(i, "cleaned up");
	else
		instance_refuse(i, "cleaned up");
	instance_clear_failure(i);
	e->removed = true;
	c->freed += before - c->server->model->account.bytes;
	/* At once: it may be over before the next slice. */
	if (torn_down)
		wait_for_teardowns(c);
	instance_propagate(i);
}

/* Also what is torn down with something else is removed. */
static void cleanup_look(const struct cleaning *t, const struct seen *e)
{
	if (e->removed || !cleanup_is_there(cleanup_find(t, e)))
		record_string(&t->cleanup->removed, REPORT_REMOVED, e->title);
}

/* Whether it is known by then if it is stale. */
static bool is_judged(const struct cleaning *t, int64_t until)
{
	struct instance *i = t->flags & WIRE_CLEANUP_STALE ? cleanup_find(t, t->seen.all[t->next]) : NULL;

	return !i || !i->current || !i->watch || watchset_look(i->watch, t->asked, until);
}

/* True: the next phase may begin. */
static bool clean_step(struct cleaning *t, int64_t until)
{
	if (t->phase == NOTING)
		return note_step(t);
	if (t->next == t->seen.n)
		return true;
	if (t->phase == GIVING_UP && !is_judged(t, until))
		return false;
	if (t->phase == GIVING_UP)
		cleanup_give_up(t, t->seen.all[t->next++]);
	else
		cleanup_look(t, t->seen.all[t->next++]);
	return false;
}

static void cleanup_put_list(struct text *out, uint16_t field, const struct text *list)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	text_add(out, list->data ? list->data : "", list->size);
	record_end(out, mark);
}

static void cleanup_free(struct cleanup *c)
{
	link_remove(&c->link);
	text_deinit(&c->removed);
	text_deinit(&c->kept);
	text_deinit(&c->errors);
	free(c);
}

static void cleanup_answer(struct cleanup *c)
{
	_cleanup_text_ struct text out = { 0 };

	cleanup_put_list(&out, REPORT_REMOVED, &c->removed);
	cleanup_put_list(&out, REPORT_KEPT, &c->kept);
	cleanup_put_list(&out, REPORT_ERRORS, &c->errors);
	record_u64(&out, REPORT_FREED, c->freed);
	link_for_each(l, &c->server->conns) {
		if (link_entry(l, struct conn, link)->client.id != c->conn)
			continue;
		conn_reply_text(link_entry(l, struct conn, link), &c->request, out.data, out.size);
		break;
	}
	cleanup_free(c);
}

/* The task, or a teardown, is over. */
static void one_less(struct cleanup *c)
{
	if (--c->n_waits == 0)
		cleanup_answer(c);
}

static void on_cleanup_torn_down(void *arg, const char *title, const char *wrong)
{
	struct cleanup *c = arg;
	_cleanup_free_ char *error = wrong ? xasprintf("%s: %s", title, wrong) : NULL;

	if (error)
		record_string(&c->errors, REPORT_ERRORS, error);
	one_less(c);
}

static bool cleanup_go_on(struct task *task, int64_t until)
{
	struct cleaning *t = container_of(task, struct cleaning, task);
	struct cleanup *c = t->cleanup;

	do {
		if (!clean_step(t, until))
			continue;
		if (t->phase == LOOKING) {
			t->cleanup = NULL;
			wait_for_teardowns(c);
			one_less(c);
			return true;
		}
		t->phase++;
		t->next = 0;
	} while (clock_now() < until);
	return false;
}

static void cleaning_free(struct task *task)
{
	struct cleaning *t = container_of(task, struct cleaning, task);

	for (size_t k = 0; k < t->seen.n; k++) {
		struct seen *e = t->seen.all[k];

		free(e->key);
		free(e->title);
		free(e);
	}
	vector_deinit(&t->seen);
	walk_deinit(&t->walk);
	list_free(t->patterns);
	if (t->cleanup)
		one_less(t->cleanup);
	free(t);
}

void cleanup_ask(struct conn *conn, const struct wire_header *h, const char *patterns, uint32_t flags, int64_t older_than)
{
	struct cleaning *t = xcalloc(1, sizeof *t);
	struct cleanup *c = xcalloc(1, sizeof *c);

	c->server = conn->server;
	c->conn = conn->client.id;
	c->request = *h;
	c->n_waits = 1;
	link_insert(&conn->server->cleanups, &c->link);
	t->cleanup = c;
	t->patterns = list_split(patterns);
	t->flags = flags;
	t->older_than = older_than;
	t->asked = clock_now();
	t->task.step = cleanup_go_on;
	t->task.free = cleaning_free;
	task_begin(conn, h, &t->task);
}

void cleanups_end(struct server *server)
{
	link_for_each(l, &server->work->keepers) {
		struct keeper *k = link_entry(l, struct keeper, link);

		if (k->on_end == on_cleanup_torn_down) {
			k->on_end = NULL;
			on_cleanup_torn_down(k->on_end_arg, k->title, "is still being torn down, and fixd ends or restarts");
		}
	}
}
