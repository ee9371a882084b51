/* SPDX-License-Identifier: MIT */
/* A daemon becomes a saved state: what has a number is collected first, then each object is written after those that it refers to. */
#include "fixd/keep/state.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/vector.h"
#include "config/config.h"
#include "fixd/host/board.h"
#include "fixd/host/ring.h"
#include "fixd/host/watch.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/rows.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/orphan.h"
#include "fixd/model/pool.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/reload.h"
#include "fixd/serve/request.h"
#include "fixd/work/client_build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/survivor.h"

/* What has a number in the records. */
struct saving {
	struct state *s;
	struct text *out;
	struct keep *keep;
	uint64_t number;      /* of this state, of all that were written */
	struct vector images; /* each after those it leads to */
	struct vector instances;
	uint64_t session;
};

static void add_image(struct saving *v, struct image *im)
{
	if (!im || im->saved == v->number)
		return;
	im->saved = v->number;
	for (size_t k = 0; im->depends && k < im->n_depends; k++)
		add_image(v, im->depends[k]);
	for (size_t k = 0; k < im->n_teardown_deps; k++)
		add_image(v, im->teardown_deps[k]);
	for (size_t k = 0; k < im->n_trees; k++)
		add_image(v, im->trees[k]);
	vector_add(&v->images, im);
}

static void save_add_instance(struct instance *i, void *arg)
{
	struct saving *v = arg;

	i->saved_at = v->instances.n;
	vector_add(&v->instances, i);
	add_image(v, i->current);
	add_image(v, i->last);
}

static void add_asked_for(const struct wire_header *h, uint32_t flags, const struct instance *i, struct image *const *depends,
			  size_t n_depends, int64_t deadline, void *arg)
{
	(void)h;
	(void)flags;
	(void)i;
	(void)deadline;
	for (size_t k = 0; k < n_depends; k++)
		add_image(arg, depends[k]);
}

static void add_leased(struct saving *v, const struct link *leases)
{
	link_for_each(l, leases)
		add_image(v, link_entry(l, struct lease, in_client)->image);
}

/* What it holds, what it builds from or asks for by them, and what it lets go. */
static void add_images_of(struct saving *v, const struct conn *c)
{
	const struct member *m = c->client.member;
	size_t n;

	add_leased(v, &c->client.leases);
	link_for_each(l, &c->client.offers) {
		struct image *const *depends = offer_depends(offer_of_client(l), &n);

		add_asked_for(NULL, 0, NULL, depends, n, 0, v);
	}
	attach_each(c, add_asked_for, v);
	if (!m)
		return;
	link_for_each(l, &m->run->releases)
		add_image(v, link_entry(l, struct release, link)->image);
}

static void save_collect(struct saving *v)
{
	link_for_each(l, &v->keep->model->sessions)
		session_each(link_entry(l, struct session, link), save_add_instance, v);
	link_for_each(l, &v->keep->server->conns)
		add_images_of(v, link_entry(l, struct conn, link));
	link_for_each(l, &v->keep->work->keepers)
		add_image(v, link_entry(l, struct keeper, link)->image);
	link_for_each(l, &v->keep->work->survivors)
		add_leased(v, &link_entry(l, struct survivor, link)->leases);
}

static uint64_t session_number(const struct keep *keep, const struct session *s)
{
	uint64_t n = 0;

	link_for_each(l, &keep->model->sessions) {
		if (link_entry(l, struct session, link) == s)
			return n;
		n++;
	}
	return UINT64_MAX;
}

static void save_serials(struct text *out, uint16_t field, struct image *const *images, size_t n)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	for (size_t k = 0; k < n; k++)
		record_u64(out, field, images[k]->serial);
	record_end(out, mark);
}

static void save_object(struct saving *v, uint16_t field, const struct row *rows, const void *object)
{
	size_t mark = record_begin(v->out, field, RECORD_OBJECT);

	rows_save(rows, object, v->s);
	record_end(v->out, mark);
}

static void save_daemon(struct saving *v, bool own_listener)
{
	const struct keep *keep = v->keep;
	const struct model *m = keep->model;
	struct board_state b = board_state(keep->work->board);
	struct kept k = {
		.started = keep->server->started,
		.last_serial = m->last_serial,
		.hits = m->hits,
		.misses = m->misses,
		.failures = m->failures,
		.evictions = m->evictions,
		.teardown_failures = m->teardown_failures,
		.unsandboxed = m->unsandboxed,
		.trees = keep->work->trees,
		.trees_lock = keep->work->trees_lock,
		.board_value = b.last_value,
		.board_used = b.n_used,
		.board = b.fd,
		.events = keep->work->event_memory ? keep->work->event_memory->fd : -1,
		.asker = keep->asker,
		.asker_request = keep->asker_request,
	};

	listener_fds(keep->server->listener, &k.listener, &k.listener_lock);
	if (own_listener && k.listener_lock < 0)
		k.listener = -1;
	save_object(v, STATE_DAEMON, daemon_rows, &k);
}

static void save_fixture(struct text *out, const struct fixture *f)
{
	size_t mark = record_begin(out, STATE_FIXTURE, RECORD_OBJECT);

	record_string(out, STATE_NAME, f->name);
	for (size_t i = 0; f->registered_as[i]; i++)
		record_string(out, STATE_SETTING, f->registered_as[i]);
	record_end(out, mark);
}

static void save_run(struct saving *v, const struct run *r)
{
	size_t mark = record_begin(v->out, STATE_RUN, RECORD_OBJECT);

	rows_save(run_rows, r, v->s);
	for (size_t k = 0; k < r->uses.n; k++)
		save_object(v, STATE_USE, use_rows, r->uses.all[k]);
	record_end(v->out, mark);
}

static void save_session(struct saving *v, const struct session *s)
{
	size_t mark = record_begin(v->out, STATE_SESSION, RECORD_OBJECT);

	rows_save(session_rows, s, v->s);
	for (size_t k = 0; k < s->n_fixtures; k++)
		save_fixture(v->out, s->fixtures[k]);
	link_for_each(l, &s->past)
		save_run(v, link_entry(l, struct run, link));
	link_for_each(l, &s->runs)
		save_run(v, link_entry(l, struct run, link));
	link_for_each(l, &s->orphans)
		save_object(v, STATE_ORPHAN, orphan_rows, link_entry(l, struct orphan, link));
	record_end(v->out, mark);
}

static void save_keeper(struct saving *v, struct keeper *k)
{
	keeper_note_fds(k);
	save_object(v, STATE_KEEPER, keeper_rows, k);
}

static void save_image(struct saving *v, const struct image *im)
{
	size_t mark = record_begin(v->out, STATE_IMAGE, RECORD_OBJECT), list;

	rows_save(image_rows, im, v->s);
	list = record_begin(v->out, STATE_SAW, RECORD_LIST);
	for (size_t k = 0; k < im->n_depends; k++) {
		record_u64(v->out, STATE_SAW, im->dep_digests[k].low);
		record_u64(v->out, STATE_SAW, im->dep_digests[k].high);
	}
	record_end(v->out, list);
	if (im->depends)
		save_serials(v->out, STATE_DEPENDS, im->depends, im->n_depends);
	save_serials(v->out, STATE_NEEDS, im->teardown_deps, im->n_teardown_deps);
	if (im->n_trees)
		save_serials(v->out, STATE_TREES_OF, im->trees, im->n_trees);
	if (im->session)
		record_u64(v->out, STATE_OF_SESSION, session_number(v->keep, im->session));
	if (im->kept_by)
		save_keeper(v, im->kept_by);
	record_end(v->out, mark);
}

static void save_watch(struct text *out, const struct instance *i)
{
	size_t mark = record_begin(out, STATE_WATCH, RECORD_OBJECT);

	watchset_save(i->watch, out);
	record_end(out, mark);
}

static void save_pool(struct saving *v, const struct pool *p)
{
	size_t mark = record_begin(v->out, STATE_POOL, RECORD_OBJECT), list;

	rows_save(pool_rows, &p->figures, v->s);
	list = record_begin(v->out, STATE_HANDOUTS, RECORD_LIST);
	for (size_t k = 0; k < p->figures.given && k < POOL_HANDOUTS; k++)
		record_time(v->out, STATE_HANDOUTS, p->figures.handouts[k]);
	record_end(v->out, list);
	record_end(v->out, mark);
}

static void save_instance(struct saving *v, const struct instance *i)
{
	size_t mark = record_begin(v->out, STATE_INSTANCE, RECORD_OBJECT), list;

	record_u64(v->out, STATE_OF_SESSION, session_number(v->keep, i->session));
	record_string(v->out, STATE_NAME, i->fixture->name);
	record_bool(v->out, STATE_REGISTERED, i->fixture->registered);
	rows_save(instance_rows, i, v->s);
	record_string(v->out, STATE_RUN_ID, i->run ? i->run->id : NULL);
	if (i->run)
		record_u64(v->out, STATE_RUN_SESSION, session_number(v->keep, i->run->session));
	record_u64(v->out, STATE_CURRENT, i->current ? i->current->serial : 0);
	record_u64(v->out, STATE_LAST, i->last ? i->last->serial : 0);
	list = record_begin(v->out, STATE_FAILED_WITH, RECORD_LIST);
	for (size_t k = 0; i->failed_with && k < i->fixture->n_depends; k++)
		record_u64(v->out, STATE_FAILED_WITH, i->failed_with[k]);
	record_end(v->out, list);
	if (i->watch)
		save_watch(v->out, i);
	if (i->pool)
		save_pool(v, i->pool);
	record_bool(v->out, STATE_EAGER, i->eager_from != 0);
	if (timer_is_running(&i->restart))
		record_time(v->out, STATE_RESTART_IN, i->restart.deadline);
	record_end(v->out, mark);
}

static void save_attach(const struct wire_header *h, uint32_t flags, const struct instance *i, struct image *const *depends,
			size_t n_depends, int64_t deadline, void *arg)
{
	struct saving *v = arg;
	size_t mark = record_begin(v->out, STATE_ATTACH, RECORD_OBJECT);

	record_u64(v->out, STATE_ID, h->id);
	record_u64(v->out, STATE_FLAGS, flags);
	record_u64(v->out, STATE_OF_INSTANCE, i->saved_at);
	record_time(v->out, STATE_DEADLINE, deadline);
	save_serials(v->out, STATE_DEPENDS, depends, n_depends);
	record_end(v->out, mark);
}

static void save_release(struct saving *v, const struct release *w)
{
	const struct asked_release *a = container_of(w, struct asked_release, release);
	size_t mark = record_begin(v->out, STATE_RELEASE, RECORD_OBJECT);

	record_u64(v->out, STATE_ID, a->request.id);
	record_u64(v->out, STATE_SERIAL, w->image->serial);
	record_time(v->out, STATE_DEADLINE, w->limit.deadline);
	record_end(v->out, mark);
}

static void save_member(struct saving *v, const struct member *m)
{
	record_string(v->out, STATE_RUN_ID, m->run->id);
	record_bool(v->out, STATE_OBSERVER, m->observer);
	record_bool(v->out, STATE_CLOSING, m->closing);
	link_for_each(l, &m->run->releases) {
		const struct release *w = link_entry(l, struct release, link);

		if (w->client == m->client)
			save_release(v, w);
	}
}

static void save_offer(struct saving *v, const struct offer *o)
{
	size_t mark = record_begin(v->out, STATE_OFFER, RECORD_OBJECT);

	record_u64(v->out, STATE_OF_INSTANCE, offer_instance(o)->saved_at);
	offer_save(o, v->s);
	record_end(v->out, mark);
}

static void save_message(const void *data, size_t size, void *arg)
{
	struct saving *v = arg;

	record_bytes(v->out, STATE_MESSAGE, data, size);
}

static void save_conn(struct saving *v, const struct conn *c)
{
	size_t mark = record_begin(v->out, STATE_CONN, RECORD_OBJECT);

	rows_add_fd(v->s, source_fd(c->source));
	record_u64(v->out, STATE_FD, (uint64_t)source_fd(c->source));
	rows_save(conn_rows, c, v->s);
	if (c->client.session)
		record_u64(v->out, STATE_OF_SESSION, session_number(v->keep, c->client.session));
	link_for_each(l, &c->client.leases) {
		const struct lease *lease = link_entry(l, struct lease, in_client);
		size_t inner = record_begin(v->out, STATE_LEASE, RECORD_OBJECT);

		record_u64(v->out, STATE_SERIAL, lease->image->serial);
		rows_save(lease_rows, lease, v->s);
		record_end(v->out, inner);
	}
	if (c->client.member)
		save_member(v, c->client.member);
	link_for_each(l, &c->client.offers)
		save_offer(v, offer_of_client(l));
	attach_each(c, save_attach, v);
	reload_each(c, save_message, v);
	inbox_each(c, save_message, v);
	record_end(v->out, mark);
}

/* Of processes whose connection does not come along. */
static void save_holders(struct saving *v, const struct link *leases)
{
	link_for_each(l, leases) {
		const struct lease *lease = link_entry(l, struct lease, in_client);
		size_t mark;

		if (!image_holders_matter(lease->image) || lease->pid <= 0)
			continue;
		mark = record_begin(v->out, STATE_HOLDER, RECORD_OBJECT);
		record_u64(v->out, STATE_SERIAL, lease->image->serial);
		record_u64(v->out, STATE_PID, (uint64_t)lease->pid);
		record_end(v->out, mark);
	}
}

uint64_t state_save(struct keep *keep, enum state_for purpose, struct state *out)
{
	static uint64_t last_number;
	struct saving v = { .s = out, .out = &out->records, .keep = keep, .number = ++last_number };

	*out = (struct state){ 0 };
	record_u64(v.out, STATE_VERSION_FIELD, STATE_VERSION);
	save_collect(&v);
	save_daemon(&v, purpose != STATE_FOR_EXEC);
	link_for_each(l, &keep->model->sessions)
		save_session(&v, link_entry(l, struct session, link));
	for (size_t k = 0; k < v.images.n; k++)
		save_image(&v, v.images.all[k]);
	link_for_each(l, &keep->work->keepers) {
		if (!link_entry(l, struct keeper, link)->image && !link_entry(l, struct keeper, link)->from)
			save_keeper(&v, link_entry(l, struct keeper, link));
	}
	for (size_t k = 0; k < v.instances.n; k++)
		save_instance(&v, v.instances.all[k]);
	link_for_each(l, &keep->server->conns) {
		if (purpose != STATE_FOR_STORE)
			save_conn(&v, link_entry(l, struct conn, link));
		else
			save_holders(&v, &link_entry(l, struct conn, link)->client.leases);
	}
	/* What comes from the remote, or waits, ends with its build. */
	link_for_each(l, &keep->work->transfers) {
		const struct transfer *t = link_entry(l, struct transfer, link);

		if (purpose == STATE_FOR_EXEC && t->up && !t->build)
			save_object(&v, STATE_TRANSFER, transfer_rows, t);
	}
	link_for_each(l, &keep->work->survivors)
		save_holders(&v, &link_entry(l, struct survivor, link)->leases);
	vector_deinit(&v.images);
	vector_deinit(&v.instances);
	return v.number;
}

void state_deinit(struct state *s)
{
	text_deinit(&s->records);
	free(s->fds);
	*s = (struct state){ 0 };
}
