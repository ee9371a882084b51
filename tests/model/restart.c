/* SPDX-License-Identifier: MIT */
/*
 * The daemon of a world is killed, or becomes another program, and the next one has what was saved: by the real files of keep/, with
 * what is not of the model in the place of the rooms beside it. Connections end with a daemon that is killed; edits meanwhile are not
 * heard of.
 */
#include "restart.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "fixd/host/board.h"
#include "fixd/host/watch.h"
#include "fixd/keep/check.h"
#include "fixd/keep/keep.h"
#include "fixd/keep/loading.h"
#include "fixd/keep/state.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/serve/conn.h"
#include "fixd/serve/reload.h"
#include "fixd/serve/request.h"
#include "fixd/work/client_build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/recovery.h"
#include "fixd/work/survivor.h"
#include "fixd/work/transfer.h"
#include "fixd/work/work.h"
#include "life.h"
#include "world.h"

/* The board is the world's: slots that somebody has taken since this daemon began. */
static bool *taken;

struct board_state board_state(const struct board *b)
{
	(void)b;
	return (struct board_state){ .fd = world.memory, .last_value = world.last_value, .n_used = (uint32_t)world.n_slots };
}

int board_restore(int *fd, uint64_t last_value, uint32_t n_used, struct board **out)
{
	close(*fd);
	*fd = -1;
	*out = NULL;
	taken = xcalloc(n_used + 1, sizeof *taken);
	return last_value == world.last_value && n_used == world.n_slots ? 0 : -1;
}

bool board_take_slot(struct board *b, uint32_t slot)
{
	bool is_free = slot < world.n_slots && !taken[slot];

	(void)b;
	if (is_free)
		taken[slot] = true;
	return is_free;
}

void board_clear_free(struct board *b)
{
	(void)b;
	for (size_t k = 0; k < world.n_slots; k++) {
		if (!taken[k])
			world.board[k] = 0;
	}
	free(taken);
	taken = NULL;
}

void board_show(struct board *b, uint32_t slot, uint64_t value)
{
	(void)b;
	if (slot != BOARD_NO_SLOT)
		world.board[slot] = value;
}

/* What is watched is the world's, too. */

void watchset_save(const struct watchset *s, struct text *out)
{
	world_save_seen(s, out);
}

struct viewer *watchset_saved_viewer(const struct record *saved)
{
	(void)saved;
	return NULL;
}

struct watchset *watchset_new(struct watcher *w, char *const *files, char *const *patterns, size_t most, struct viewer *viewer,
			      void (*hint)(void *arg), void *arg)
{
	(void)w, (void)files, (void)most, (void)viewer, (void)hint, (void)arg;
	return world_see(patterns);
}

void watchset_restore(struct watchset *s, const struct record *saved)
{
	world_restore_seen(s, saved);
}

/* Connections. */

/* While there are any: what a descriptor of theirs is. */
int source_fd(const struct source *s)
{
	return s ? *(const int *)(const void *)s : -1;
}

void attach_each(const struct conn *c,
		 void (*fn)(const struct wire_header *h, uint32_t flags, const struct instance *i, struct image *const *depends,
			    size_t n_depends, int64_t deadline, void *arg),
		 void *arg)
{
	const struct instance *i = life_question(c);

	if (i)
		fn(&(struct wire_header){ .id = c->client.id }, 0, i, NULL, 0, world.now + NSEC_PER_SEC, arg);
}

/* Which of them comes next. */
static uint64_t next_connection;

struct conn *conn_new(struct server *server, int fd)
{
	struct conn *c = life_connection(++next_connection);

	close(fd);
	link_insert(&server->conns, &c->link);
	return c;
}

void conn_join_run(struct conn *c, const char *run, bool observer)
{
	run_join(c->client.session, run, &c->client, observer);
}

void conn_reply_error(struct conn *c, const struct wire_header *to, int err, const char *fmt, ...)
{
	(void)err, (void)fmt;
	if (to->type == WIRE_TYPE_attach)
		life_ask_again(c, NULL);
}

void attach_resume(struct conn *c, const struct wire_header *h, const struct wire_attach *a, const uint64_t *depends, struct instance *i)
{
	(void)h, (void)a, (void)depends;
	life_ask_again(c, i->clone_of ? i->clone_of->front : i);
}

void release_resume(struct conn *c, const struct wire_header *h, struct image *im, const struct wire_release *q)
{
	(void)h;
	life_release_again(c, im, q->timeout_ms);
}

void inbox_add(struct conn *c, const void *data, size_t size)
{
	(void)c, (void)data, (void)size;
}

/* What a client builds. */
struct offer {
	struct link in_client;
	struct world_job job;
};

const struct row offer_rows[] = { ROW_OF(struct world_job, ROW_TIME, began), { 0 } };

static void save_builders(void)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		struct offer *o = xcalloc(1, sizeof *o);

		o->job = world.jobs[k];
		link_init(&o->in_client);
		if (o->job.what == JOB_OF_OFFER)
			link_insert(&life_connection(o->job.builder)->client.offers, &o->in_client);
		else
			free(o);
	}
}

static void forget_builders(struct link *conns)
{
	link_for_each(l, conns) {
		struct client *c = &link_entry(l, struct conn, link)->client;

		while (!link_empty(&c->offers)) {
			struct offer *o = link_entry(c->offers.next, struct offer, in_client);

			link_remove(&o->in_client);
			free(o);
		}
	}
}

const struct offer *offer_of_client(const struct link *in_client)
{
	return link_entry(in_client, const struct offer, in_client);
}

const struct instance *offer_instance(const struct offer *o)
{
	return o->job.instance;
}

struct image *const *offer_depends(const struct offer *o, size_t *n)
{
	(void)o;
	*n = 0;
	return NULL;
}

void offer_save(const struct offer *o, struct state *s)
{
	size_t list;

	rows_save(offer_rows, &o->job, s);
	list = record_begin(&s->records, STATE_SAW, RECORD_LIST);
	for (size_t k = 0; k < WORLD_FILES; k++)
		record_u64(&s->records, STATE_SAW, o->job.read[k]);
	record_end(&s->records, list);
}

static void resume_read(struct world_job *j, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	for (size_t n = 0; n < WORLD_FILES && record_next(&in, &r, &bad); n++)
		j->read[n] = r.number;
}

bool offer_resume(struct instance *i, struct client *c, const struct record *saved, int (*resolve)(void *arg, int number), void *arg)
{
	struct record_reader in = record_inside(saved);
	struct world_job *j = world_resume_offer(i, c);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (!row_load(offer_rows, j, &r, resolve, arg) && r.field == STATE_SAW)
			resume_read(j, &r);
	}
	return true;
}

/* Of what there is besides nothing is there. */

void inbox_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg)
{
	(void)c, (void)fn, (void)arg;
}

void listener_fds(const struct listener *l, int *fd, int *lock)
{
	(void)l;
	*fd = *lock = -1;
}

int work_open_events(struct work *w, int fd)
{
	(void)w, (void)fd;
	return 0;
}

void keeper_note_fds(struct keeper *k)
{
	(void)k;
}

void keeper_resume(struct work *w, struct keeper *k)
{
	(void)w;
	world_resume_keeper(k);
}

void recovery_go_on(struct work *w, char *const *used)
{
	(void)w, (void)used;
}

void reload_each(const struct conn *c, void (*fn)(const void *data, size_t size, void *arg), void *arg)
{
	(void)c, (void)fn, (void)arg;
}

static void (*survive)(pid_t pid, struct image *im);

void survivor_hold(struct work *w, pid_t pid, struct image *im)
{
	(void)w;
	survive(pid, im);
}

void survivor_lets_go(struct work *w, pid_t pid, const struct image *im)
{
	(void)w, (void)pid, (void)im;
}

void transfers_let_go(struct work *w)
{
	(void)w;
}

void transfer_resume(struct work *w, struct transfer *t)
{
	(void)w;
	free(t);
}

/* The daemon. */

static struct keep keep_of(struct server *server)
{
	link_init(&server->conns);
	link_init(&world.work->survivors);
	link_init(&world.work->transfers);
	return (struct keep){ .model = world.model, .work = world.work, .server = server, .listener = -1, .listener_lock = -1 };
}

struct saved world_save(enum state_for purpose, struct link *conns)
{
	struct server server = { 0 };
	struct keep keep = keep_of(&server);
	struct saved saved = { 0 };

	link_insert(conns, &server.conns);
	link_remove(conns);
	save_builders();
	state_save(&keep, purpose, &saved.state);
	forget_builders(&server.conns);
	/* They are closed with the daemon. */
	saved.fds = xcalloc(saved.state.n_fds + 1, sizeof *saved.fds);
	for (size_t k = 0; k < saved.state.n_fds; k++)
		saved.fds[k] = fcntl(saved.state.fds[k], F_DUPFD_CLOEXEC, 0);
	while (!link_empty(&server.conns))
		link_remove(server.conns.next);
	return saved;
}

static int resolve(void *arg, int number)
{
	struct saved *saved = arg;

	for (size_t k = 0; k < saved->state.n_fds; k++) {
		if (saved->state.fds[k] == number) {
			int fd = saved->fds[k];

			saved->fds[k] = -1;
			return fd;
		}
	}
	return -1;
}

int world_load(struct saved *saved, void (*hold)(pid_t pid, struct image *im))
{
	struct server server = { 0 };
	struct keep keep = keep_of(&server);
	int r;

	survive = hold;
	next_connection = 0;
	if (life_is_loud) {
		char *wrong = state_check(saved->state.records.data, saved->state.records.size);

		if (wrong)
			printf("# %s\n", wrong);
		free(wrong);
	}
	r = state_load(&keep, saved->state.records.data, saved->state.records.size, resolve, saved);
	while (!link_empty(&server.conns))
		link_remove(server.conns.next);

	for (size_t k = 0; k < saved->state.n_fds; k++) {
		if (saved->fds[k] >= 0)
			close(saved->fds[k]);
	}
	free(saved->fds);
	state_deinit(&saved->state);
	return r;
}
