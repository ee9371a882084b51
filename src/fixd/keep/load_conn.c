/* SPDX-License-Identifier: MIT */
/* Connections of a saved state: their leases, what they build, and what they have asked for. */
#include <errno.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "config/config.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/loading.h"
#include "fixd/keep/state.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/request.h"
#include "fixd/work/client_build.h"

static void load_lease(struct loading *l, struct conn *c, const struct record *saved)
{
	struct lease copy = { 0 }, *lease;
	struct image *im = NULL;
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (!loading_row(l, lease_rows, &copy, &r) && r.field == STATE_SERIAL)
			im = loading_image(l, r.number);
	}
	if (!im)
		return;
	lease = lease_new(im, &c->client.leases, copy.pid);
	c->client.n_leases++;
	lease->released = copy.released;
	lease->uid = copy.uid;
	lease->since = copy.since;
	lease->event = copy.event;
}

/* How long it may still wait. */
static uint32_t rest_ms(int64_t deadline)
{
	int64_t left = deadline - clock_now();

	return left > 0 ? (uint32_t)((left + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC) : 0;
}

static void load_attach(struct loading *l, struct conn *c, const struct record *saved)
{
	struct wire_header h = { .type = WIRE_TYPE_attach };
	struct wire_attach a = { 0 };
	uint64_t depends[WIRE_DEPENDS_MAX];
	struct instance *i = NULL;
	struct record r, serial;

	EACH_RECORD(l, saved, r) {
		struct record_reader in = record_inside(&r);
		bool bad = false;

		if (r.field == STATE_ID)
			h.id = r.number;
		else if (r.field == STATE_FLAGS)
			a.flags = (uint32_t)r.number;
		else if (r.field == STATE_OF_INSTANCE)
			i = loading_instance(l, r.number);
		else if (r.field == STATE_DEADLINE)
			a.timeout_ms = rest_ms((int64_t)r.number);
		while (r.field == STATE_DEPENDS && a.depends < WIRE_DEPENDS_MAX && record_next(&in, &serial, &bad))
			depends[a.depends++] = serial.number;
	}
	if (i)
		attach_resume(c, &h, &a, depends, i);
	else
		conn_reply_error(c, &h, -ENOENT, "this fixture is not in %s any more", l->keep->model->config->file);
}

/* Its lease may have gone since it asked. */
static void load_release(struct loading *l, struct conn *c, const struct record *saved)
{
	struct wire_header h = { .type = WIRE_TYPE_release };
	struct wire_release q = { .flags = WIRE_RELEASE_WAIT };
	struct image *im = NULL;
	struct record r;

	EACH_RECORD(NULL, saved, r) {
		if (r.field == STATE_ID)
			h.id = r.number;
		else if (r.field == STATE_SERIAL)
			im = loading_image(l, r.number);
		else if (r.field == STATE_DEADLINE)
			q.timeout_ms = rest_ms((int64_t)r.number);
	}
	if (im)
		release_resume(c, &h, im, &q);
	else
		conn_reply_error(c, &h, -ENOENT, "what is released is not there any more");
}

static void load_offer(struct loading *l, struct conn *c, const struct record *saved)
{
	struct instance *i = NULL;
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_OF_INSTANCE)
			i = loading_instance(l, r.number);
	}
	if (i && offer_resume(i, &c->client, saved, l->resolve, l->arg))
		i->state = INSTANCE_BUILDING;
}

/* The connection itself; NULL: it is gone. */
static struct conn *make_conn(struct loading *l, const struct record *saved, _Bool *observer, char **run)
{
	struct keep *keep = l->keep;
	struct conn *c = NULL;
	struct record r;

	EACH_RECORD(l, saved, r) {
		int fd = r.field == STATE_FD ? l->resolve(l->arg, (int)r.number) : -1;

		if (fd >= 0 && !c)
			c = conn_new(keep->server, fd);
		if (r.field == STATE_OBSERVER)
			*observer = r.number;
		if (r.field == STATE_RUN_ID && !*run)
			*run = record_dup(&r);
	}
	return c;
}

void loading_conn(struct loading *l, const struct record *saved)
{
	_cleanup_free_ char *run = NULL;
	bool observer = false;
	struct conn *c = make_conn(l, saved, &observer, &run);
	struct record r;

	if (!c)
		return;
	EACH_RECORD(l, saved, r) {
		if (loading_row(l, conn_rows, c, &r))
			continue;
		if (r.field == STATE_OF_SESSION && (c->client.session = loading_session(l, r.number)))
			c->client.session->n_conns++;
	}
	/* Joining counts nothing again, nor does what it holds then. */
	if (run && c->client.session)
		conn_join_run(c, run, observer);
	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_CLOSING && c->client.member)
			c->client.member->closing = r.number;
		else if (r.field == STATE_LEASE)
			load_lease(l, c, &r);
		else if (r.field == STATE_OFFER)
			load_offer(l, c, &r);
	}
}

/* What was asked for, when everybody is there. The connections come in the same order. */
static void load_requests(struct loading *l, const struct record *saved, struct conn *c)
{
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_ATTACH)
			load_attach(l, c, &r);
		else if (r.field == STATE_RELEASE && c->client.member)
			load_release(l, c, &r);
		else if (r.field == STATE_MESSAGE && r.kind == RECORD_STRING && r.size <= WIRE_MESSAGE_MAX)
			inbox_add(c, r.data, r.size);
	}
}

static struct conn *conn_by_id(const struct keep *keep, uint64_t id)
{
	link_for_each(l, &keep->server->conns) {
		if (link_entry(l, struct conn, link)->client.id == id)
			return link_entry(l, struct conn, link);
	}
	return NULL;
}

static uint64_t id_of(struct loading *l, const struct record *saved)
{
	struct conn copy = { 0 };
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (r.field <= 2)
			loading_row(l, conn_rows, &copy, &r);
	}
	return copy.client.id;
}

void loading_asked(struct loading *l, const struct record *saved)
{
	struct conn *c = conn_by_id(l->keep, id_of(l, saved));

	if (c)
		load_requests(l, saved, c);
}

/* What has changed while no daemon ran is seen now, also by those who look at the board only. */
