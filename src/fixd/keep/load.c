/* SPDX-License-Identifier: MIT */
/* A saved state becomes a daemon: objects in the order of what they refer to, then what was asked for; checked by keep/state_check before. */
#include "fixd/keep/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "config/config.h"
#include "fixd/host/board.h"
#include "fixd/host/watch.h"
#include "fixd/keep/check.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/loading.h"
#include "fixd/keep/rows.h"
#include "fixd/model/edge.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/orphan.h"
#include "fixd/model/pool.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "fixd/work/keeper.h"
#include "fixd/work/recovery.h"
#include "fixd/work/survivor.h"
#include "fixd/work/trees.h"
#include "image/memfd.h"
#include "image/region.h"

static void use_path(struct loading *l, const char *path)
{
	if (path)
		vector_add(&l->used, xstrdup(path));
}

bool loading_row(struct loading *l, const struct row *rows, void *object, const struct record *r)
{
	const struct row *row = &rows[r->field - 1];

	if (!row_load(rows, object, r, l->resolve, l->arg))
		return false;
	/* What has a place in a table is not to be removed as left behind. */
	if (row->type == ROW_PATH)
		use_path(l, *(char **)((char *)object + row->offset));
	return true;
}

static int images_by_serial(const void *key, const void *image)
{
	uint64_t a = *(const uint64_t *)key, b = ((const struct image *)image)->serial;

	return a < b ? -1 : a > b;
}

struct image *loading_image(const struct loading *l, uint64_t serial)
{
	bool found;
	size_t at = vector_search(&l->images, &serial, images_by_serial, &found);

	return found ? l->images.all[at] : NULL;
}

struct session *loading_session(const struct loading *l, uint64_t n)
{
	return n < l->n_sessions ? l->sessions[n] : NULL;
}

struct instance *loading_instance(const struct loading *l, uint64_t n)
{
	return n < l->instances.n ? l->instances.all[n] : NULL;
}

/* A listening socket, and the lock of its path; the lock alone is of no use. */
static void take_listener(struct keep *keep, const struct kept *k)
{
	int listening = 0;
	socklen_t size = sizeof listening;
	bool listens = k->listener >= 0 && getsockopt(k->listener, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;

	keep->listener = listens ? k->listener : fd_close(k->listener);
	keep->listener_lock = listens ? k->listener_lock : fd_close(k->listener_lock);
}

static int load_daemon(struct loading *l, const struct record *saved)
{
	struct keep *keep = l->keep;
	struct model *m = keep->model;
	struct kept k = { .trees_lock = -1, .board = -1, .events = -1, .listener = -1, .listener_lock = -1 };
	struct record r;

	EACH_RECORD(l, saved, r)
		loading_row(l, daemon_rows, &k, &r);
	work_open_events(keep->work, k.events);
	if (k.board < 0 || board_restore(&k.board, k.board_value, k.board_used, &keep->work->board) < 0) {
		fd_close(k.board);
		fd_close(k.listener);
		fd_close(k.listener_lock);
		/* What the next daemon finds, and removes. */
		fd_close(k.trees_lock);
		free(k.trees);
		free(k.unsandboxed);
		return -EBADF;
	}
	keep->server->started = k.started;
	/* One that was killed has given more than are saved: to directories that are removed only now. They begin with the time. */
	if (m->last_serial < k.last_serial)
		m->last_serial = k.last_serial;
	m->hits = k.hits;
	m->misses = k.misses;
	m->failures = k.failures;
	m->evictions = k.evictions;
	m->teardown_failures = k.teardown_failures;
	m->unsandboxed = k.unsandboxed;
	keep->work->trees = k.trees;
	keep->work->trees_lock = k.trees_lock;
	keep->asker = k.asker;
	keep->asker_request = k.asker_request;
	take_listener(keep, &k);
	return 0;
}

static void load_fixture(struct session *s, const struct record *saved)
{
	char **settings = xcalloc(1, sizeof *settings), *name = NULL;
	_cleanup_text_ struct text problems = { 0 };
	struct record r;
	size_t n = 0;

	EACH_RECORD(NULL, saved, r) {
		if (r.field == STATE_NAME) {
			free(name);
			name = record_dup(&r);
		} else if (r.field == STATE_SETTING) {
			settings = xrealloc(settings, (n + 2) * sizeof *settings);
			settings[n++] = record_dup(&r);
			settings[n] = NULL;
		}
	}
	if (name && session_define(s, name, settings, &problems) < 0)
		log_warn(0, "session %s: '%s' is not defined any more: %s", s->id, name, problems.data);
	free(name);
	list_free(settings);
}

static void load_run(struct loading *l, struct session *s, const struct record *saved)
{
	struct run *run = xcalloc(1, sizeof *run);
	struct record r;

	link_init(&run->link);
	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_USE) {
			struct use *u = xcalloc(1, sizeof *u);
			struct record_reader in = record_inside(&r);
			struct record inner;
			bool bad = false;

			while (record_next(&in, &inner, &bad))
				loading_row(l, use_rows, u, &inner);
			run_resume_use(run, u);
		} else {
			loading_row(l, run_rows, run, &r);
		}
	}
	if (!run->id)
		run->id = xstrdup("");
	run_resume(s, run);
}

static void load_orphan(struct loading *l, struct session *s, const struct record *saved)
{
	struct orphan *o = xcalloc(1, sizeof *o);
	uint64_t size;
	struct record r;

	o->note_fd = -1;
	EACH_RECORD(l, saved, r)
		loading_row(l, orphan_rows, o, &r);
	if (!o->title || o->note_fd < 0 || memfd_verify(o->note_fd, &size) < 0 || size != o->note_size) {
		fd_close(o->note_fd);
		free(o->title);
		free(o);
		return;
	}
	orphan_resume(s, o);
}

/* The definitions of a session come before what is built by them. */
static void load_session(struct loading *l, const struct record *saved)
{
	struct keep *keep = l->keep;
	struct session copy = { 0 }, *s;
	struct record r;

	EACH_RECORD(l, saved, r)
		loading_row(l, session_rows, &copy, &r);
	s = copy.root ? session_get(keep->model, copy.root, copy.uid) : NULL;
	/* That of the ini file may have moved. */
	if (l->n_sessions == 0)
		s = keep->model->session;
	l->sessions = xrealloc(l->sessions, (l->n_sessions + 1) * sizeof(struct session *));
	l->sessions[l->n_sessions++] = s;
	free(copy.root);
	if (!s)
		return;
	s->created_real = copy.created_real;
	s->last_run_real = copy.last_run_real;
	s->total_runs = copy.total_runs;
	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_FIXTURE)
			load_fixture(s, &r);
		else if (r.field == STATE_RUN)
			load_run(l, s, &r);
		else if (r.field == STATE_ORPHAN)
			load_orphan(l, s, &r);
	}
}

static struct keeper *load_keeper(struct loading *l, const struct record *saved)
{
	struct keeper *k = xcalloc(1, sizeof *k);
	struct record r;

	k->service = k->hold = k->channel_fd = k->errors_fd = -1;
	EACH_RECORD(l, saved, r)
		loading_row(l, keeper_rows, k, &r);
	if (!k->title)
		k->title = xstrdup("");
	return k;
}

/* Serials -> references, all of which must be there. NULL: one is not. */
static struct image **load_images(const struct loading *l, const struct record *saved, size_t *n)
{
	struct image **all = xcalloc(1, sizeof *all);
	struct record r;

	*n = 0;
	EACH_RECORD(l, saved, r) {
		struct image *im = loading_image(l, r.number);

		if (!im) {
			while (*n > 0)
				image_unref(all[--*n]);
			free(all);
			return NULL;
		}
		all = xrealloc(all, (*n + 1) * sizeof(struct image *));
		all[(*n)++] = image_ref(im);
	}
	return all;
}

/* True: it is what it should be, and lies where it should. */
static bool load_is_sound(const struct loading *l, const struct image *im, size_t n_depends)
{
	uint64_t size, note_size, parts_size;

	if (im->parts_fd >= 0 && memfd_verify(im->parts_fd, &parts_size) < 0)
		return false;
	if (im->note_fd >= 0 && (memfd_verify(im->note_fd, &note_size) < 0 || note_size != im->note_size))
		return false;
	return im->serial && im->kind && im->root <= im->size && im->fd >= 0 && im->title && (!im->tree || access(im->tree, F_OK) == 0) &&
	       memfd_verify(im->fd, &size) == 0 && size == im->size &&
	       (im->kind != WIRE_IMAGE_OBJECTS || (im->depends && n_depends == im->n_depends)) &&
	       (!im->address || region_claim(l->keep->model->region, im->address, im->size));
}

static void load_teardown_deps(const struct loading *l, struct image *im, const struct record *saved)
{
	size_t n;
	struct image **teardown_deps = im->teardown_deps ? NULL : load_images(l, saved, &n);

	if (teardown_deps)
		image_take_teardown_deps(im, teardown_deps, n);
}

static void load_image(struct loading *l, const struct record *saved)
{
	struct keep *keep = l->keep;
	uint64_t last_serial = keep->model->last_serial;
	struct image *im = image_new(keep->model, -1, WIRE_IMAGE_BLOB, 0);
	struct keeper *k = NULL;
	struct session *s = NULL;
	size_t n_depends = 0;
	struct record r;

	keep->model->last_serial = last_serial;
	EACH_RECORD(l, saved, r) {
		if (loading_row(l, image_rows, im, &r))
			continue;
		if (r.field == STATE_SAW)
			im->dep_digests = rows_digests(&r, &im->n_depends);
		else if (r.field == STATE_DEPENDS)
			im->depends = load_images(l, &r, &n_depends);
		else if (r.field == STATE_NEEDS)
			load_teardown_deps(l, im, &r);
		else if (r.field == STATE_TREES_OF && !im->trees)
			im->trees = load_images(l, &r, &im->n_trees);
		else if (r.field == STATE_OF_SESSION)
			s = loading_session(l, r.number);
		else if (r.field == STATE_KEEPER && !k)
			k = load_keeper(l, &r);
	}
	image_charge(im, s ? s->user : NULL, im->bytes);
	if (s) {
		im->session = s;
		link_insert(&s->images, &im->in_session);
	}
	if (!load_is_sound(l, im, n_depends)) {
		log_warn(0, "%s: an image of the daemon before this one is not what it was, and is dropped", im->title ? im->title : "?");
		im->address = 0; /* somebody else's */
		im->torn_down = true;
	} else {
		bool found;
		size_t at = vector_search(&l->images, &im->serial, images_by_serial, &found);

		vector_insert(&l->images, at, image_ref(im));
	}
	if (k) {
		im->kept_by = k;
		k->image = im;
		im->died = k->died;
		/* Its end holds it. */
		if (k->ending) {
			image_ref(im);
			image_begin_ending(im);
		}
		keeper_resume(keep->work, k);
	}
	image_unref(im);
}

/* Which definition it is an instance of. */
static const struct fixture *load_definition(const struct loading *l, const struct session *s, const char *name, bool registered,
					     const char *param)
{
	const struct fixture *f = registered ? session_fixture(s, name) : config_find(l->keep->model->config, name);

	if (f && !registered && (param ? !list_has(f->params, param) : f->params != NULL))
		return NULL;
	return f;
}

static const struct run *find_run(const struct session *s, const char *id)
{
	link_for_each(m, &s->runs) {
		if (id && !strcmp(link_entry(m, struct run, link)->id, id))
			return link_entry(m, struct run, link);
	}
	return NULL;
}

/* The rows go into a copy first: what it is an instance of decides whether there is one. */
static struct instance *make_instance(struct loading *l, const struct record *saved)
{
	_cleanup_free_ char *name = NULL, *run = NULL;
	struct instance *copy = xcalloc(1, sizeof *copy), *i = NULL;
	struct session *s = NULL, *run_session = NULL;
	const struct fixture *f;
	bool registered = false;
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (loading_row(l, instance_rows, copy, &r))
			continue;
		if (r.field == STATE_OF_SESSION)
			s = loading_session(l, r.number);
		else if (r.field == STATE_RUN_SESSION)
			run_session = loading_session(l, r.number);
		else if (r.field == STATE_REGISTERED)
			registered = r.number;
		else if (r.field == STATE_NAME && !name)
			name = record_dup(&r);
		else if (r.field == STATE_RUN_ID && r.kind == RECORD_STRING && !run)
			run = record_dup(&r);
	}
	f = s && name && copy->scope_key ? load_definition(l, s, name, registered, copy->param) : NULL;
	if (f) {
		i = session_resume_instance(s, f, copy->param, copy->scope_key, copy->env, find_run(run_session ? run_session : s, run),
					    copy->clone);
		copy->env = NULL;
	}
	list_free(copy->env);
	free(copy->param);
	free(copy->scope_key);
	free(copy->clone);
	if (i)
		instance_resume(i, copy);
	else {
		free(copy->stale_cause);
		free(copy->error);
		free(copy->failed_error);
		free(copy->teardown_error);
		text_deinit(&copy->log);
	}
	free(copy);
	return i;
}

static void load_failed_with(struct instance *i, const struct record *saved)
{
	struct record r;
	size_t n = 0;

	free(i->failed_with);
	i->failed_with = saved->size && i->fixture->n_depends ? xcalloc(i->fixture->n_depends, sizeof *i->failed_with) : NULL;
	EACH_RECORD(NULL, saved, r) {
		if (n < i->fixture->n_depends)
			i->failed_with[n++] = r.number;
	}
}

static void load_handouts(struct pool_figures *figures, const struct record *saved)
{
	struct record r;
	size_t n = 0;

	EACH_RECORD(NULL, saved, r) {
		if (n < POOL_HANDOUTS)
			figures->handouts[n++] = (int64_t)r.number;
	}
	/* Of more than there are nothing is known. */
	if (figures->given > n && n < POOL_HANDOUTS)
		figures->given = n;
}

static void load_pool(struct loading *l, struct pool_figures *figures, const struct record *saved)
{
	struct record r;

	EACH_RECORD(l, saved, r) {
		if (!loading_row(l, pool_rows, figures, &r) && r.field == STATE_HANDOUTS)
			load_handouts(figures, &r);
	}
}

static void load_instance(struct loading *l, const struct record *saved)
{
	struct instance *i = make_instance(l, saved);
	struct keep *keep = l->keep;
	struct image *last;
	struct record r;
	bool slot;

	vector_add(&l->instances, i);
	if (!i)
		return;
	slot = board_take_slot(keep->work->board, i->board_slot);
	if (!slot)
		i->board_slot = BOARD_NO_SLOT;
	EACH_RECORD(l, saved, r) {
		switch (r.field) {
		case STATE_CURRENT:
			i->current = loading_image(l, r.number);
			if (i->current)
				image_ref(i->current);
			break;
		case STATE_LAST:
			last = loading_image(l, r.number);
			if (last)
				instance_set_last(i, last);
			break;
		case STATE_FAILED_WITH:
			load_failed_with(i, &r);
			break;
		case STATE_WATCH:
			i->watch = watchset_new(keep->work->watcher, i->fixture->inputs, i->fixture->policy.watch, WATCH_NAMES_MAX,
						watchset_saved_viewer(&r), instance_inputs_event, i);
			watchset_restore(i->watch, &r);
			break;
		case STATE_POOL:
			if (i->pool)
				load_pool(l, &i->pool->figures, &r);
			break;
		case STATE_EAGER:
			i->eager_from = r.number ? clock_now() : 0;
			break;
		case STATE_RESTART_IN:
			timer_start(keep->model->loop, &i->restart, (int64_t)r.number);
			break;
		}
	}
	instance_set_idle(i);
	if (i->current)
		image_update_unused(i->current);
	if (i->current && (!i->watch || !slot || i->current->board_slot != i->board_slot))
		instance_retire(i, !i->watch ? "what it was built from is not known any more" : "its place on the board is another one's");
	if (i->current && i->pool)
		instance_retire(i, "it has clones now");
	if (i->current && i->fixture->policy.on_restart == RESTART_DROP)
		instance_refuse(i, "the daemon was restarted");
}

static struct image *held_image(struct loading *l, const struct record *saved, pid_t *pid)
{
	struct image *im = NULL;
	struct record r;

	*pid = 0;
	EACH_RECORD(l, saved, r) {
		if (r.field == STATE_SERIAL)
			im = loading_image(l, r.number);
		else if (r.field == STATE_PID)
			*pid = (pid_t)r.number;
	}
	return im;
}

static void load_holder(struct loading *l, const struct record *saved)
{
	pid_t pid;
	struct image *im = held_image(l, saved, &pid);

	if (!im)
		return;
	im->dirty = true;
	survivor_hold(l->keep->work, pid, im);
}

static void load_let_go(struct loading *l, const struct record *saved)
{
	pid_t pid;
	struct image *im = held_image(l, saved, &pid);

	if (im)
		survivor_lets_go(l->keep->work, pid, im);
}

static void each_record(struct loading *l, const void *records, size_t size, uint16_t field,
			void (*load)(struct loading *l, const struct record *saved))
{
	struct record_reader in = { records, size };
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == field)
			load(l, &r);
	}
}

static void load_lone_keeper(struct loading *l, const struct record *saved)
{
	keeper_resume(l->keep->work, load_keeper(l, saved));
}

static void settle_loaded(struct instance *i)
{
	if (!i->current)
		instance_show_stale(i, i->last);
	/* Whoever had it has ended while there was no daemon. */
	if (i->current && i->current->dirty)
		instance_give_back(i->current);
	instance_propagate(i);
	instance_inputs_event(i);
}

/* Runs whose members are all gone have ended. */
static void end_runs(struct keep *keep)
{
	link_for_each(l, &keep->model->sessions) {
		struct session *s = link_entry(l, struct session, link);

		link_for_each_safe(m, &s->runs) {
			if (link_empty(&link_entry(m, struct run, link)->members))
				run_end(link_entry(m, struct run, link));
		}
	}
}

static bool version_fits(const void *records, size_t size)
{
	struct record_reader in = { records, size };
	struct record r;
	bool bad = false;

	return record_next(&in, &r, &bad) && r.field == STATE_VERSION_FIELD && r.number == STATE_VERSION;
}

static int load_first(struct loading *l, const void *records, size_t size)
{
	struct record_reader in = { records, size };
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == STATE_DAEMON)
			return load_daemon(l, &r);
	}
	return -EBADMSG;
}

static void load_transfer(struct loading *l, const struct record *saved)
{
	struct transfer *t = xcalloc(1, sizeof *t);
	struct record r;

	t->fd = -1;
	EACH_RECORD(l, saved, r)
		loading_row(l, transfer_rows, t, &r);
	transfer_resume(l->keep->work, t);
}

int state_load(struct keep *keep, const void *records, size_t size, int (*resolve)(void *arg, int number), void *arg)
{
	struct loading l = { .keep = keep, .resolve = resolve, .arg = arg };
	_cleanup_free_ char *wrong = NULL;
	int r;

	if (!version_fits(records, size))
		return -EPROTONOSUPPORT;
	wrong = state_check(records, size);
	if (wrong) {
		log_error(0, "the saved state is not one that a fixd has written: %s", wrong);
		return -EBADMSG;
	}
	r = load_first(&l, records, size);
	if (r < 0)
		return r;
	keep->model->loading = true;
	each_record(&l, records, size, STATE_SESSION, load_session);
	each_record(&l, records, size, STATE_IMAGE, load_image);
	each_record(&l, records, size, STATE_INSTANCE, load_instance);
	each_record(&l, records, size, STATE_KEEPER, load_lone_keeper);
	board_clear_free(keep->work->board);
	vector_add(&l.used, NULL);
	recovery_go_on(keep->work, (char **)l.used.all);
	each_record(&l, records, size, STATE_CONN, loading_conn);
	each_record(&l, records, size, STATE_HOLDER, load_holder);
	each_record(&l, records, size, STATE_LET_GO, load_let_go);
	each_record(&l, records, size, STATE_CONN, loading_asked);
	each_record(&l, records, size, STATE_TRANSFER, load_transfer);
	transfers_let_go(keep->work);
	for (size_t i = 0; i < l.instances.n; i++) {
		if (l.instances.all[i])
			session_find_dependencies(l.instances.all[i]);
	}
	for (size_t i = 0; i < l.instances.n; i++) {
		if (l.instances.all[i])
			settle_loaded(l.instances.all[i]);
	}
	reclaim_sort(keep->model);
	keep->model->loading = false;
	end_runs(keep);
	log_info("going on with %zu image%s and %zu connection%s of the daemon before this one", l.images.n, l.images.n == 1 ? "" : "s",
		 keep->server->n_conns, keep->server->n_conns == 1 ? "" : "s");
	for (size_t i = 0; i < l.images.n; i++)
		image_unref(l.images.all[i]);
	for (size_t i = 0; i < l.used.n; i++)
		free(l.used.all[i]);
	vector_deinit(&l.used);
	vector_deinit(&l.images);
	vector_deinit(&l.instances);
	free(l.sessions);
	return 0;
}
