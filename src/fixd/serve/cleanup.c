/* SPDX-License-Identifier: MIT */
#include "fixd/serve/cleanup.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/conn.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/instance.h"
#include "fixd/keeper.h"
#include "fixd/see.h"
#include "fixd/session.h"
#include "wire/record.h"
#include "wire/report.h"

struct cleanup {
	struct link link; /* daemon::cleanups */
	struct daemon *daemon;
	uint64_t conn; /* it may be gone */
	struct wire_header request;
	struct text removed, kept, errors;
	uint64_t freed; /* bytes */
	size_t n_waits; /* for so many teardowns */
};

/* What is asked for, and of all instances that could be concerned what there was. */
struct looking {
	const struct conn *conn;
	char *const *patterns;
	uint32_t flags;
	int64_t older_than;
	struct instance **all;
	size_t n;
};

static bool is_there(const struct instance *i)
{
	return i->current || i->state == INSTANCE_FAILED;
}

static void collect(struct instance *i, void *arg)
{
	struct looking *l = arg;

	if (!is_there(i) || !see_instance(l->conn, i))
		return;
	l->all = xrealloc(l->all, (l->n + 1) * sizeof(struct instance *));
	l->all[l->n++] = i;
}

static bool is_wanted(const struct looking *l, struct instance *i)
{
	bool named = false;

	for (size_t k = 0; l->patterns[k]; k++)
		named |= see_named(l->patterns[k], i);
	if (!named || !is_there(i))
		return false;
	if ((l->flags & WIRE_CLEANUP_FAILED) && i->state != INSTANCE_FAILED)
		return false;
	if ((l->flags & WIRE_CLEANUP_UNUSED) && !(i->current && i->current->attaches == 0))
		return false;
	if ((l->flags & WIRE_CLEANUP_STALE) && !instance_is_stale(i))
		return false;
	return l->older_than < 0 || (i->current && clock_now() - i->current->created > l->older_than);
}

/* Also what is torn down with something else is removed. */
static void remove_wanted(struct cleanup *c, const struct looking *l)
{
	for (size_t k = 0; k < l->n; k++) {
		struct instance *i = l->all[k];

		if (!is_wanted(l, i))
			continue;
		if (i->current && i->current->n_uses && !(l->flags & WIRE_CLEANUP_FORCE)) {
			record_string(&c->kept, REPORT_KEPT, i->title);
			continue;
		}
		instance_retire(i, "cleaned up");
		instance_clear_failure(i);
		instance_settle(i);
	}
	for (size_t k = 0; k < l->n; k++) {
		if (!is_there(l->all[k]))
			record_string(&c->removed, REPORT_REMOVED, l->all[k]->title);
	}
}

/* For all that is, or will be, torn down without anybody having to let go of it. */
static void wait_for_teardowns(struct cleanup *c)
{
	link_for_each(l, &c->daemon->keepers) {
		struct keeper *k = link_entry(l, struct keeper, link);
		const struct image *im = k->image;

		if (!im || k->cleanup || im->n_uses || (im->instance && im->instance->current == im))
			continue;
		k->cleanup = c;
		c->freed += im->bytes;
		c->n_waits++;
	}
}

static void put_list(struct text *out, uint16_t field, const struct text *list)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	text_add(out, list->data ? list->data : "", list->size);
	record_end(out, mark);
}

static void answer(struct cleanup *c)
{
	_cleanup_text_ struct text out = { 0 };

	put_list(&out, REPORT_REMOVED, &c->removed);
	put_list(&out, REPORT_KEPT, &c->kept);
	put_list(&out, REPORT_ERRORS, &c->errors);
	record_u64(&out, REPORT_FREED, c->freed);
	link_for_each(l, &c->daemon->conns) {
		if (link_entry(l, struct conn, link)->id != c->conn)
			continue;
		conn_reply_text(link_entry(l, struct conn, link), &c->request, out.data, out.size);
		break;
	}
	link_remove(&c->link);
	text_deinit(&c->removed);
	text_deinit(&c->kept);
	text_deinit(&c->errors);
	free(c);
}

void cleanup_ask(struct conn *conn, const struct wire_header *h, char *const *patterns, uint32_t flags, int64_t older_than)
{
	struct daemon *d = conn->daemon;
	struct looking looking = { .patterns = patterns, .flags = flags, .older_than = older_than, .conn = conn };
	struct cleanup *c = xcalloc(1, sizeof *c);
	uint64_t before = d->memory_used;

	c->daemon = d;
	c->conn = conn->id;
	c->request = *h;
	link_insert(&d->cleanups, &c->link);
	link_for_each(l, &d->sessions) {
		struct session *s = link_entry(l, struct session, link);

		if (see_session(conn, s))
			session_each(s, collect, &looking);
	}
	remove_wanted(c, &looking);
	free(looking.all);
	c->freed = before - d->memory_used;
	wait_for_teardowns(c);
	if (c->n_waits == 0)
		answer(c);
}

void cleanup_torn_down(struct cleanup *c, const char *title, const char *wrong)
{
	_cleanup_free_ char *error = wrong ? xasprintf("%s: %s", title, wrong) : NULL;

	if (error)
		record_string(&c->errors, REPORT_ERRORS, error);
	if (--c->n_waits == 0)
		answer(c);
}

void cleanups_end(struct daemon *d)
{
	link_for_each(l, &d->keepers) {
		struct keeper *k = link_entry(l, struct keeper, link);
		struct cleanup *c = k->cleanup;

		k->cleanup = NULL;
		if (c)
			cleanup_torn_down(c, k->title, "is still being torn down, and fixd ends or restarts");
	}
}
