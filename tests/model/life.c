/* SPDX-License-Identifier: MIT */
/*
 * Random lives of the model: clients that ask, hold, give up, join runs, let go as members of them and leave, edits, builds and teardowns
 * that end well and badly, services that die, memory that runs short, definitions that are read anew, clean-ups, restarts, and time. After
 * each step everything is as instance.h, policy.h, image.h and run.h promise: one build at a time, nothing older than the question,
 * teardowns once and in their order, each image of a run torn down by one who is told, no waiter and no release forgotten, nothing
 * miscounted.
 */
#include "life.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "config/config.h"
#include "fixd/model/client.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/orphan.h"
#include "fixd/model/pool.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/run.h"
#include "fixd/model/session.h"
#include "fixd/serve/conn.h"
#include "restart.h"
#include "world.h"

#define CLIENTS 12
#define STEPS 42 /* kinds of them */

#define INI(first, age)                                                                                      \
	"[fixd]\nroot = /\nmemory-max = 160K\nuser-memory-max = 40K\n[policy]\nmax-age = none\n" first       \
	"[fixture b]\ncommand = true\nwatch = 1\ndepends = a\nrebuild = eager\n"                             \
	"[fixture c]\ncommand = true\nwatch = 2\nwatch-by = content\ndepends = a, b\n"                       \
	"[fixture d]\ncommand = true\nmax-age = " age "\nparams = 1, 2\nwatch = 3\n"                         \
	"[fixture e]\ncommand = true\ncheck = true\ndepends = d[1]\nretry-after = 1s\n"                      \
	"[fixture same]\ncommand = true\nwatch = 0, 3\n"                                                     \
	"[fixture f]\ncommand = true\ndepends = same, c\nmax-age = 2s\nage-from = last-use\n"                \
	"[fixture g]\nservice = true\nready = line\nteardown = true\ndepends = a\n"                          \
	"[fixture h]\nservice = true\nready = line\nexclusive = yes\nreset = true\ndepends = g\nwatch = 1\n" \
	"[fixture i]\ncommand = true\nteardown = true\ndepends = g\nrebuild = eager\n"                       \
	"[fixture x]\nclient = yes\nwatch = 2\n"                                                             \
	"[fixture y]\nclient = yes\nwatch = 1\nreuse = no\n[fixture z]\nclient = yes\nreuse = no\n"

/* What the file says, and may say later: "a" is another one, or is gone with all that depends on it. */
#define INIS 3
#define VARIANTS(more)                                                                  \
	{                                                                               \
		INI("[fixture a]\ncommand = true\nwatch = 0\n", "5s")                   \
		more, INI("[fixture a]\ncommand = true; true\nwatch = 0\n", "5s") more, \
			INI("[fixture a]\ncommand = true\nwatch = 0\n", "7s") more      \
	}

/* In some lives there are clones, too. */
static const char *const inis[2][INIS] = {
	VARIANTS(""),
	VARIANTS(
		"[fixture t]\ntree = true\nwatch = 0\n[fixture p]\nservice = true\nready = line\ndata = t\nclones = 3\n"
		"[fixture q]\ncommand = true\ndepends = p, a\nwatch = 2\n[fixture r]\nservice = true\nready = line\ndepends = p, q\nclones = 2\n"),
};

static const struct {
	const char *name, *param;
} kinds[] = { { "a", NULL }, { "b", NULL }, { "c", NULL }, { "d", "1" },  { "d", "2" },	 { "e", NULL }, { "same", NULL },
	      { "f", NULL }, { "g", NULL }, { "h", NULL }, { "i", NULL }, { "x", NULL }, { "y", NULL }, { "z", NULL },
	      { "y", NULL }, { "p", NULL }, { "q", NULL }, { "r", NULL }, { "p", NULL } };
#define CLONE_KINDS 4
#define RUN_KINDS 3 /* before those */

#define USER_STEPS 8 /* kinds of steps, behind the others */

static const struct {
	const char *root;
	uid_t uid;
} places[] = { { "/", 0 }, { "/one", 1000 }, { "/two", 1000 }, { "/one", 1001 } };

static bool with_clones, with_users, with_restarts, with_restarts_in_place;
static const char *ini;

static unsigned n_steps(void)
{
	return STEPS + (with_users ? USER_STEPS : 0) + with_restarts + with_restarts_in_place;
}

static unsigned n_kinds(void)
{
	return ELEMENTSOF(kinds) - (with_clones ? 0 : CLONE_KINDS);
}

/* Somebody who asks for one thing at a time, and holds what it got. */
struct asker {
	struct conn conn;
	struct waiter waiter;
	bool waits;
	const struct run *asked_in; /* or NULL; it may have left since */
	char asked_in_id[8];	    /* the same, for the next daemon */
	int fd;			    /* of its connection, for the next daemon */
	bool asked_again;	    /* in this daemon, what it had asked of the one before */
	size_t released_again;
	uint64_t files[WORLD_FILES]; /* as they were when it asked */
	size_t n_releases;	     /* that were not answered yet */
};

static struct asker clients[CLIENTS];
/* Of the images that somebody is to be told to tear down. */
static size_t n_told, n_adopted;
static const char *fault;
bool life_is_loud;

static void fail(const char *what)
{
	if (!fault)
		fault = what;
}

/* Nothing that was complete before the question may be missing. */
static void check_freshness(const struct asker *c, const struct instance *i)
{
	const struct policy *p = &i->fixture->policy;
	int64_t born = p->age_from == AGE_FROM_CREATION ? i->current->created : i->current->used;

	if (p->max_age != DURATION_NONE && born < c->waiter.asked && !i->current->n_uses &&
	    world.now - born > p->max_age + world.now - c->waiter.asked)
		fail("what was handed out is older than max-age");

	for (unsigned k = 0; k < WORLD_FILES; k++) {
		if (world_watches(i->fixture, k) && world_seen(i->current, k) < c->files[k])
			fail("what was handed out is older than an edit before the question");
	}
}

static void answer(struct waiter *w, enum outcome outcome)
{
	struct asker *c = container_of(w, struct asker, waiter);
	struct instance *i = w->instance;

	if (!c->waits)
		fail("one that does not wait was answered");
	c->waits = false;
	if (outcome != OUTCOME_READY) {
		if (!i->error || !*i->error)
			fail("a failure without a sentence");
		return;
	}
	if (i->fixture->exclusive && i->current->n_leases)
		fail("an exclusive one was handed out that somebody holds");
	if (i->fixture->reset && i->current->dirty)
		fail("one was handed out that was not reset");
	if (i->clone && (i->current->attaches || i->current->dirty))
		fail("a clone was handed out that somebody has had");
	if (!i->fixture->reuse && i->run != c->asked_in)
		fail("one of a run was handed out in another run");
	if (i->current->torn_down)
		fail("one was handed out that somebody is tearing down");
	check_freshness(c, i);
	image_used(i->current);
	lease_new(i->current, &c->conn.client.leases, (pid_t)(c - clients) + 1);
	if (c->conn.client.member)
		run_used(c->conn.client.member->run, i->current, w->built);
}

static bool look(struct waiter *w)
{
	return world_look(w->instance);
}

static char *offer(struct waiter *w)
{
	struct asker *c = container_of(w, struct asker, waiter);

	c->waits = false;
	world_offer(w->instance, &c->conn.client);
	return NULL;
}

/* One of the file's, as a client of a session means it: what clients build is for their own user. */
static struct instance *of_the_file(const struct asker *c, unsigned kind)
{
	struct model *m = world.model;
	const struct fixture *f = config_find(m->config, kinds[kind].name);
	struct session *s = f && f->source == SOURCE_CLIENT ? session_get(m, m->config->root, c->conn.client.uid) : m->session;

	return f && s ? world_instance_in(s, f, kinds[kind].param, c->conn.client.member ? c->conn.client.member->run : NULL) : NULL;
}

static void begin_to_wait(struct asker *c, struct instance *i)
{
	c->waits = true;
	c->waiter = (struct waiter){ .asked = world.now,
				     .holds = true,
				     .answer = answer,
				     .look = look,
				     .offer = offer,
				     .can_build = i->fixture->source == SOURCE_CLIENT };
	link_init(&c->waiter.link);
	waiter_begin(i, &c->waiter);
}

static void wait_for(struct asker *c, struct instance *i)
{
	if (c->waits || !i)
		return;
	c->asked_in = c->conn.client.member ? c->conn.client.member->run : NULL;
	snprintf(c->asked_in_id, sizeof c->asked_in_id, "%s", c->asked_in ? c->asked_in->id : "");
	memcpy(c->files, world.files, sizeof c->files);
	begin_to_wait(c, i);
}

static void ask(struct asker *c, unsigned kind)
{
	if (!c->waits)
		wait_for(c, of_the_file(c, kind));
}

static void give_up(struct asker *c)
{
	if (c->waits)
		waiter_cancel(&c->waiter);
	c->waits = false;
}

static void detach(struct asker *c)
{
	if (!link_empty(&c->conn.client.leases))
		lease_free(link_entry(c->conn.client.leases.next, struct lease, in_client));
	if (c->conn.client.member)
		run_settle(c->conn.client.member->run);
}

/* The end of its process, or of its connection. */
static void leave(struct asker *c)
{
	run_leave(&c->conn.client);
	if (c->n_releases)
		fail("a client has left, and what it waited for has not ended");
}

static void join(struct asker *c, uint32_t n)
{
	static const char *const ids[] = { "r0", "r1", "r2" };

	if (!c->conn.client.member)
		run_join(c->conn.client.session, ids[n % 3], &c->conn.client, n % 7 == 0);
}

/* What somebody defines for himself, in one of its versions; and asks for. */
static const char *const own[] = { "u", "v", "x" };

static void define(struct asker *c, uint32_t n)
{
	static char *const versions[][4] = { { (char *)"watch=0", NULL },
					     { (char *)"watch=2", NULL },
					     { (char *)"watch=1", (char *)"max-age=3s", NULL },
					     { (char *)"watch=2", (char *)"reuse=no", NULL } };
	struct text problems = { 0 };

	if (c->conn.client.session != world.model->session &&
	    session_define(c->conn.client.session, own[n % ELEMENTSOF(own)], versions[n / 4 % ELEMENTSOF(versions)], &problems) < 0)
		fail("a good definition was refused");
	text_deinit(&problems);
}

static void ask_own(struct asker *c, uint32_t n)
{
	const struct fixture *f = session_fixture(c->conn.client.session, own[n % ELEMENTSOF(own)]);

	if (f && !c->waits)
		wait_for(c, world_instance_in(c->conn.client.session, f, NULL, c->conn.client.member ? c->conn.client.member->run : NULL));
}

static bool is_builder(const struct asker *c)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].what == JOB_OF_OFFER && world.jobs[k].builder == c->conn.client.id)
			return true;
	}
	return false;
}

/* A process has gone that held nothing, and another one comes, which joins that session. */
static void move(struct asker *c, uint32_t n)
{
	uid_t uid = places[n % ELEMENTSOF(places)].uid;
	struct session *to;

	if (c->waits || c->conn.client.member || c->n_releases || !link_empty(&c->conn.client.leases) || is_builder(c))
		return;
	to = session_get(world.model, places[n % ELEMENTSOF(places)].root, uid);
	if (!to)
		return;
	c->conn.client.session->n_conns--;
	to->n_conns++;
	c->conn.client.session = to;
	c->conn.client.uid = uid;
}

/* As the daemon does from time to time. */
static void sweep_all(void)
{
	link_for_each_safe(l, &world.model->sessions) {
		struct session *s = link_entry(l, struct session, link);

		if (!session_sweep(s) && s != world.model->session)
			session_free(s);
	}
}

/* Could anybody else use an image that one is told to tear down? */
static void check_last(const struct release *w)
{
	for (int k = 0; k < CLIENTS; k++) {
		const struct client *c = &clients[k].conn.client;

		if (c == w->client || !c->member || c->member->run != w->client->member->run || c->member->observer)
			continue;
		link_for_each(l, &c->leases) {
			const struct lease *lease = link_entry(l, struct lease, in_client);

			if (lease->image == w->image && !lease->released)
				fail("one was told to tear down what another one holds");
		}
	}
}

static void released(struct release *w, enum released how)
{
	struct asker *c = container_of(w->client, struct asker, conn.client);

	c->n_releases--;
	if (how == RELEASED_LAST) {
		check_last(w);
		/* Sometimes that is not heard. */
		if (world.now % 5 == 0)
			run_last_is_lost(w->image);
		else
			n_told++;
	}
	free(container_of(w, struct asked_release, release));
}

static void begin_release(struct asker *c, struct image *im, bool wait, uint32_t timeout_ms)
{
	struct asked_release *a = xcalloc(1, sizeof *a);

	a->release.answer = released;
	c->n_releases++;
	run_release(c->conn.client.member, im, &a->release, wait, timeout_ms);
}

static void release(struct asker *c, bool wait)
{
	struct lease *l = link_empty(&c->conn.client.leases) ? NULL : link_entry(c->conn.client.leases.next, struct lease, in_client);
	if (!l || !c->conn.client.member)
		return;
	begin_release(c, l->image, wait, 3000);
	if (c->n_releases != c->conn.client.n_pending)
		fail("releases are miscounted");
}

static void adopt(const struct asker *c)
{
	struct orphan *o = session_adopt(c->conn.client.session, "*", c->conn.client.member ? c->conn.client.member->run : NULL);

	if (!o)
		return;
	if (world.now % 3 == 0) {
		orphan_return(o);
		return;
	}
	n_adopted++;
	link_for_each(l, &c->conn.client.session->orphans) {
		if (link_entry(l, struct orphan, link)->serial > o->serial)
			fail("what may be made from an image is torn down after it");
	}
	orphan_free(o);
}

static void clean_up(struct instance *i)
{
	if (i->pool)
		pool_rest(i->pool);
	instance_retire(i, "cleaned up");
	instance_clear_failure(i);
	instance_propagate(i);
}

static void count_held(struct instance *i, void *arg)
{
	*(size_t *)arg += i->current && i->current->n_uses;
}

/* What somebody holds is not given up for others. */
static void run_short(uint64_t bytes)
{
	size_t before = 0, after = 0;

	link_for_each(l, &world.model->sessions)
		session_each(link_entry(l, struct session, link), count_held, &before);
	reclaim_memory(world.model, bytes);
	link_for_each(l, &world.model->sessions)
		session_each(link_entry(l, struct session, link), count_held, &after);
	if (before != after)
		fail("what somebody holds was given up");
}

static struct instance *some_instance(uint32_t n)
{
	unsigned kind = n % (ELEMENTSOF(kinds) - CLONE_KINDS - RUN_KINDS);
	struct vector all = { 0 };
	struct instance *any;

	if (with_clones && n % 2) {
		session_each(world.model->session, session_collect, &all);
		any = all.n ? all.all[n % all.n] : NULL;
		vector_deinit(&all);
		if (any && any->clone)
			return any;
	}
	return world_instance(kinds[kind].name, kinds[kind].param);
}

static void end_job(uint32_t n, bool well)
{
	if (!world.n_jobs)
		return;
	if (well)
		world_finish(n % world.n_jobs, n >> 8 & 3);
	else
		world_fail(n % world.n_jobs);
}

/* They are in no session yet. */
static void prepare_clients(void)
{
	memset(clients, 0, sizeof clients);
	for (int k = 0; k < CLIENTS; k++) {
		struct client *c = &clients[k].conn.client;

		c->model = world.model;
		c->id = (uint64_t)k + 1;
		link_init(&c->leases);
		link_init(&c->offers);
		link_init(&clients[k].conn.link);
	}
}

static void begin_clients(void)
{
	prepare_clients();
	for (int k = 0; k < CLIENTS; k++) {
		clients[k].conn.client.session = world.model->session;
		world.model->session->n_conns++;
	}
}

static void end_clients(void)
{
	world.slow_looks = false;
	for (int k = 0; k < CLIENTS; k++) {
		while (!link_empty(&clients[k].conn.client.leases))
			detach(&clients[k]);
		leave(&clients[k]);
	}
}

static void end_jobs(void)
{
	for (int n = 0; n < 10000; n++) {
		world_turn();
		for (int k = 0; k < CLIENTS; k++)
			detach(&clients[k]);
		if (world.n_jobs)
			world_finish((size_t)n % world.n_jobs, 0);
		else if (n > 100)
			break;
	}
}

/* A process that has had it, and has not ended with the daemon: some have. */
static void hold_on(pid_t pid, struct image *im)
{
	if ((world.now + pid) % 3)
		lease_new(im, &clients[pid - 1].conn.client.leases, pid);
}

/* What the daemon before does at its end nobody sees, nor that it has been told anything. */
static void next_daemon(uint32_t n, const struct world *before)
{
	size_t told = n_told, adopted = n_adopted;

	end_clients();
	for (int k = 0; k < CLIENTS; k++)
		give_up(&clients[k]);
	end_jobs();
	world_end();
	if (n % 8 == 0)
		ini = inis[with_clones][n / 8 % INIS];
	world_begin_again(ini, before);
	n_told = told;
	n_adopted = adopted;
}

/* It is killed. */
static void restart(uint32_t n)
{
	struct world killed = world_as_it_is();
	struct link conns;
	struct saved saved;
	uint64_t highest;

	link_init(&conns);
	for (int k = 0; k < CLIENTS; k++)
		link_insert(&conns, &clients[k].conn.link);
	saved = world_save(STATE_FOR_STORE, &conns);
	/* What a build has taken since then nobody has saved. */
	highest = world.model->last_serial += n % 5;
	next_daemon(n, &killed);
	begin_clients();
	if (world_load(&saved, hold_on) < 0)
		fail("what was saved is refused");
	if (world.model->last_serial < highest)
		fail("a number of the daemon before will be given again");
}

struct conn *life_connection(uint64_t id)
{
	return &clients[id - 1].conn;
}

const struct instance *life_question(const struct conn *c)
{
	const struct asker *a = container_of(c, struct asker, conn);

	return a->waits ? a->waiter.instance : NULL;
}

/* What it knew when it asked, it knows. */
void life_ask_again(struct conn *conn, struct instance *i)
{
	struct asker *c = container_of(conn, struct asker, conn);

	c->asked_again = true;
	if (!i)
		return;
	c->asked_in = i->run && !strcmp(i->run->id, c->asked_in_id) ? i->run : NULL;
	begin_to_wait(c, i);
}

void life_release_again(struct conn *conn, struct image *im, uint32_t timeout_ms)
{
	struct asker *c = container_of(conn, struct asker, conn);

	c->released_again++;
	begin_release(c, im, true, timeout_ms);
}

static size_t count_leases(const struct asker *c)
{
	size_t n = 0;

	link_for_each(l, &c->conn.client.leases)
		n++;
	return n;
}

static size_t count_offers(void)
{
	size_t n = 0;

	for (size_t k = 0; k < world.n_jobs; k++)
		n += world.jobs[k].what == JOB_OF_OFFER;
	return n;
}

/* What a connection was before the daemon became another program. */
struct before {
	struct asker asker;
	size_t leases, releases;
	char run[8];
	bool closing;
};

static void note_client(struct before *b, struct asker *c)
{
	const struct member *m = c->conn.client.member;

	*b = (struct before){ .asker = *c, .leases = count_leases(c), .releases = c->n_releases, .closing = m && m->closing };
	snprintf(b->run, sizeof b->run, "%s", m ? m->run->id : "");
	c->fd = fcntl(world.memory, F_DUPFD_CLOEXEC, 0);
	c->conn.source = (struct source *)(void *)&c->fd;
}

/* Nothing that it has, is or has asked for is lost. */
static void check_client(const struct before *b, const struct asker *c)
{
	const struct member *m = c->conn.client.member;

	if (c->conn.client.id != b->asker.conn.client.id || !c->conn.client.session)
		fail("a connection is not what it was");
	if (b->asker.waits && !c->asked_again)
		fail("a question was forgotten over a restart");
	if (c->released_again != b->releases)
		fail("a release was forgotten over a restart");
	if (strcmp(m ? m->run->id : "", b->run) != 0 || (m && m->closing != b->closing))
		fail("a member of a run is none after a restart");
	if (!b->asker.waits && count_leases(c) != b->leases)
		fail("a lease was lost over a restart");
}

/* In place: connections live on, and what they have asked for. What was being built begins anew. */
static void become_another(uint32_t n)
{
	struct world before = world_as_it_is();
	size_t offers = count_offers();
	struct before *were = xcalloc(CLIENTS, sizeof *were);
	struct link conns;
	struct saved saved;

	link_init(&conns);
	for (int k = 0; k < CLIENTS; k++) {
		note_client(&were[k], &clients[k]);
		link_insert(&conns, &clients[k].conn.link);
	}
	saved = world_save(STATE_FOR_EXEC, &conns);
	for (int k = 0; k < CLIENTS; k++)
		close(clients[k].fd);
	next_daemon(n, &before);
	prepare_clients();
	for (int k = 0; k < CLIENTS; k++) {
		memcpy(clients[k].files, were[k].asker.files, sizeof clients[k].files);
		memcpy(clients[k].asked_in_id, were[k].asker.asked_in_id, sizeof clients[k].asked_in_id);
		clients[k].conn.client.uid = were[k].asker.conn.client.uid;
	}
	if (world_load(&saved, hold_on) < 0)
		fail("what was saved is refused");
	for (int k = 0; k < CLIENTS; k++)
		check_client(&were[k], &clients[k]);
	if (count_offers() < offers)
		fail("what a client builds was forgotten over a restart");
	free(were);
}

static void user_step(unsigned what, uint32_t n, struct asker *c)
{
	switch (what) {
	case 0:
	case 1:
		move(c, n / CLIENTS);
		break;
	case 2:
		define(c, n / CLIENTS);
		break;
	case 3:
	case 4:
	case 5:
		ask_own(c, n / CLIENTS);
		break;
	case 6:
		world.roots_gone = n / CLIENTS % 4 == 0;
		sweep_all();
		break;
	default:
		if (n / CLIENTS % 8 == 0)
			world_pass(25 * 3600 * NSEC_PER_SEC);
		sweep_all();
	}
}

/* What a word of the history says: what, and with whom. */
static void step(uint32_t word)
{
	unsigned what = word % n_steps();
	uint32_t n = word / n_steps();
	struct asker *c = &clients[n % CLIENTS];

	world.now++;
	switch (what) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
		ask(c, n / CLIENTS % n_kinds());
		break;
	case 7:
	case 8:
	case 9:
	case 10:
		detach(c);
		break;
	case 11:
	case 12:
	case 13:
	case 14:
	case 15:
	case 16:
	case 17:
	case 18:
		end_job(n, true);
		break;
	case 19:
		end_job(n, false);
		break;
	case 20:
	case 21:
		world_edit(n % WORLD_FILES);
		break;
	case 22:
		world_touch(n % WORLD_FILES);
		break;
	case 23:
		give_up(c);
		break;
	case 24:
		clean_up(some_instance(n));
		break;
	case 25:
		world_kill(some_instance(n));
		break;
	case 26:
	case 27:
		world_pass((int64_t)(n % 3000) * NSEC_PER_MSEC);
		break;
	case 28:
		world.slow_looks = true;
		break;
	case 29:
		run_short(n % (1 << 17));
		break;
	case 30:
		session_sweep(world.model->session);
		break;
	case 31:
		instance_warm(some_instance(n));
		break;
	case 32:
	case 33:
	case 34:
		join(c, n / CLIENTS);
		break;
	case 35:
		leave(c);
		break;
	case 36:
	case 37:
		release(c, true);
		break;
	case 38:
		release(c, false);
		break;
	case 39:
		if (c->conn.client.member)
			run_closing(c->conn.client.member);
		break;
	case 40:
		adopt(c);
		break;
	case 41:
		if (n % 8 == 0)
			world_redefine(ini = inis[with_clones][n / 8 % INIS]);
		break;
	default:
		if (with_restarts_in_place && what == n_steps() - 1)
			become_another(n);
		else if (with_restarts && what == n_steps() - 1 - with_restarts_in_place)
			restart(n);
		else
			user_step(what - STEPS, n, c);
	}
	world_turn();
}

static void describe(struct instance *i, void *arg)
{
	(void)arg;
	printf("# %s: state %d, %zu wait, %s%s%s\n", i->title, i->state, i->n_waiters, i->current ? "current " : "", i->last ? "last " : "",
	       i->last && i->last->ending ? "(is ending) " : "");
}

/* Whoever waits must wait for something that will end. */
static void finish_everything(void)
{
	end_clients();
	link_for_each(l, &world.model->sessions) {
		if (!link_empty(&link_entry(l, struct session, link)->runs))
			fail("a run goes on, and nobody is a member");
	}
	end_jobs();
	for (int k = 0; k < CLIENTS; k++) {
		if (clients[k].waits) {
			if (life_is_loud)
				link_for_each(l, &world.model->sessions)
					session_each(link_entry(l, struct session, link), describe, NULL);
			fail("somebody waits, and nothing is being done");
		}
		give_up(&clients[k]);
	}
	if (world.n_notes != n_told + n_adopted + world_orphans())
		fail("an image is torn down by nobody, or twice");
}

/* Of all processes. */
struct figures *life_figures;

static void count_life(size_t steps)
{
	life_figures->lives++;
	life_figures->steps += steps;
	life_figures->built += world.n_built;
	life_figures->torn_down += world.n_torn_down;
}

size_t live(uint64_t ways, const uint32_t *words, size_t n)
{
	size_t at = 0;

	with_clones = ways & WITH_CLONES;
	with_users = ways & WITH_USERS;
	with_restarts = ways & WITH_RESTARTS;
	with_restarts_in_place = ways & WITH_RESTARTS_IN_PLACE;
	fault = NULL;
	n_told = n_adopted = 0;
	ini = inis[with_clones][0];
	world_begin(ini);
	begin_clients();
	for (; at < n && !fault; at++) {
		const char *bad;

		if (life_is_loud)
			printf("# step %zu: %u with %u\n", at, words[at] % n_steps(), words[at] / n_steps());
		step(words[at]);
		bad = world_wrong();
		if (bad)
			fail(bad);
	}
	if (!fault)
		finish_everything();
	if (fault)
		return at ? at : 1;
	count_life(at);
	world_end();
	return 0;
}

const char *life_fault(void)
{
	return fault;
}
