/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/loop/backend.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/run.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/client.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/work/keeper.h"
#include "fixd/work/work.h"
#include "image/digest.h"
#include "image/memfd.h"
#include "image/region.h"
#include "wire/record.h"

struct world world;

_Noreturn static void wrong(const char *what)
{
	printf("# %s\n", what);
	fflush(stdout);
	abort();
}

/* What was seen of the files, and whether it is so still. */
struct watchset {
	bool of[WORLD_FILES];
	uint64_t stamps[WORLD_FILES];
	int changed; /* the file that has; -1: none */
};

static bool names_file(char *const *patterns, unsigned file)
{
	for (size_t k = 0; patterns && patterns[k]; k++) {
		const char *name = strrchr(patterns[k], '/');

		if (name && name[1] == (char)('0' + file))
			return true;
	}
	return false;
}

static bool own_file(const struct fixture *f, unsigned file)
{
	return names_file(f->policy.watch, file);
}

struct watchset *world_see(char *const *patterns)
{
	struct watchset *s = xcalloc(1, sizeof *s);

	for (unsigned k = 0; k < WORLD_FILES; k++)
		s->of[k] = names_file(patterns, k);
	memcpy(s->stamps, world.stamps, sizeof s->stamps);
	s->changed = -1;
	return s;
}

static struct watchset *see(const struct fixture *f)
{
	return world_see(f->policy.watch);
}

void world_save_seen(const struct watchset *s, struct text *out)
{
	record_bytes(out, 1, s->stamps, sizeof s->stamps);
	record_u64(out, 2, (uint64_t)(s->changed + 1));
}

void world_restore_seen(struct watchset *s, const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == 1)
			memcpy(s->stamps, r.data, sizeof s->stamps);
		else
			s->changed = (int)r.number - 1;
	}
}

static struct watchset *forget(struct watchset *s)
{
	free(s);
	return NULL;
}

static void look_at_all(struct watchset *s)
{
	for (int k = 0; k < WORLD_FILES && s->changed < 0; k++) {
		if (s->of[k] && s->stamps[k] != world.stamps[k])
			s->changed = k;
	}
}

static bool look(struct watchset *s, int64_t asked)
{
	(void)asked;
	if (world.slow_looks) {
		world.slow_looks = false;
		return false;
	}
	look_at_all(s);
	return true;
}

static char *found(const struct watchset *s)
{
	return s->changed < 0 ? NULL : xasprintf("%d changed", s->changed);
}

static char *changed(struct watchset *s, int64_t asked)
{
	(void)asked;
	look_at_all(s);
	return found(s);
}

/* The board: a slot is never another one's. */
static uint64_t show_new(struct work *w, uint32_t *slot)
{
	(void)w;
	if (*slot == BOARD_NO_SLOT) {
		*slot = (uint32_t)world.n_slots++;
		world.board = xrealloc(world.board, world.n_slots * sizeof *world.board);
	}
	return world.board[*slot] = ++world.last_value;
}

static void show(struct work *w, uint32_t slot, uint64_t value)
{
	(void)w;
	if (slot != BOARD_NO_SLOT)
		world.board[slot] = value;
}

static void show_no_more(struct work *w, uint32_t slot)
{
	show(w, slot, 0);
}

/* Jobs. */

static struct world_job *add_job(enum job_kind_of what, struct instance *i)
{
	static const int marker;
	struct world_job *j;

	world.jobs = xrealloc(world.jobs, (world.n_jobs + 1) * sizeof *world.jobs);
	j = &world.jobs[world.n_jobs++];
	*j = (struct world_job){ .what = what, .instance = i, .began = world.now };
	memcpy(j->read, world.files, sizeof j->read);
	for (size_t k = 0; i && k + 1 < world.n_jobs; k++) {
		if (world.jobs[k].instance == i)
			wrong("two are at work on one instance");
	}
	if (what == JOB_OF_OFFER)
		i->offer = (struct offer *)&marker;
	else if (i)
		i->build = (struct build *)&marker;
	return j;
}

struct world_wait {
	struct mem_waiter room;
};

static struct world_job take_job(size_t k)
{
	struct world_job j = world.jobs[k];

	if (j.wait)
		link_remove(&j.wait->room.link);
	free(j.wait);
	free(world.past_run);
	world.past_run = j.run;
	j.wait = NULL;

	world.n_jobs--;
	memmove(world.jobs + k, world.jobs + k + 1, (world.n_jobs - k) * sizeof *world.jobs);
	if (j.instance) {
		j.instance->build = NULL;
		j.instance->offer = NULL;
	}
	return j;
}

static void begin_build(struct instance *i)
{
	for (size_t k = 0; k < i->fixture->n_depends; k++) {
		if (!i->pins || !i->pins[k])
			wrong("a build without one of its dependencies");
	}
	if (i->last && i->last->ending)
		wrong("a build beside the teardown of what it built last");
	add_job(JOB_OF_BUILD, i);
	forget(i->watch);
	i->watch = see(i->fixture);
}

bool world_look(struct instance *i)
{
	if (!i->watch)
		i->watch = see(i->fixture);
	return look(i->watch, world.now);
}

struct world_job *world_resume_offer(struct instance *i, const struct client *builder)
{
	struct world_job *j = add_job(JOB_OF_OFFER, i);

	j->builder = builder->id;
	j->run = builder->member ? xstrdup(builder->member->run->id) : NULL;
	return j;
}

void world_offer(struct instance *i, const struct client *builder)
{
	forget(i->watch);
	i->watch = see(i->fixture);
	world_resume_offer(i, builder);
}

/* Of two builds one waits for a free place yet. */
static bool withdraw(struct instance *i)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].instance == i && world.jobs[k].what == JOB_OF_BUILD && world.jobs[k].began % 2) {
			take_job(k);
			return true;
		}
	}
	return false;
}

static void begin_check(struct instance *i, enum verdict what, const char *cause)
{
	(void)cause;
	add_job(JOB_OF_CHECK, i)->verdict = what;
}

static void abandon(struct instance *i)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].instance == i) {
			take_job(k);
			return;
		}
	}
}

static void tear_down(struct image *im)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].image == im)
			wrong("an image is torn down twice");
	}
	if (im->n_leases || im->n_teardown_dependents)
		wrong("an image is torn down that is held, or needed by another one");
	add_job(JOB_OF_TEARDOWN, NULL)->image = im;
	im->kept_by->ending = true;
}

/* What must be torn down is kept by somebody, who has nothing to do until then. */
static void begin_keeper(struct image *im)
{
	struct keeper *k = xcalloc(1, sizeof *k);

	k->title = xstrdup(im->title);
	k->image = im;
	k->service = k->hold = k->channel_fd = k->errors_fd = -1;
	world_resume_keeper(k);
	im->kept_by = k;
}

void world_resume_keeper(struct keeper *k)
{
	link_init(&k->link);
	link_insert(&world.work->keepers, &k->link);
	account_add_keeper(world.model);
	if (k->ending)
		add_job(JOB_OF_TEARDOWN, NULL)->image = k->image;
}

static void end_keeper(struct keeper *k)
{
	link_remove(&k->link);
	account_remove_keeper(world.model);
	free(k->title);
	free(k->died);
	free(k);
}

static int look_at_root(const struct session *s)
{
	return world.roots_gone && s != world.model->session ? -ENOENT : 0;
}

static void remove_tree(struct work *w, const char *path)
{
	(void)w, (void)path;
}

static bool is_dying(struct image *im)
{
	(void)im;
	return false;
}

static bool is_blocked(const struct work *w, const char *fixture)
{
	(void)w, (void)fixture;
	return false;
}

static const struct effects effects = {
	.now = clock_now,
	.real = clock_real,
	.build = begin_build,
	.withdraw = withdraw,
	.check = begin_check,
	.abandon = abandon,
	.tear_down = tear_down,
	.look_at_root = look_at_root,
	.look = look,
	.found = found,
	.changed = changed,
	.forget = forget,
	.show_new = show_new,
	.show = show,
	.show_no_more = show_no_more,
	.remove_tree = remove_tree,
	.is_dying = is_dying,
	.is_blocked = is_blocked,
};

/* Four numbers, of 32 bits, in what an image knows of its inputs: it passes over to the one that stays when the same is built again. */
static struct digest pack(const uint64_t *seen)
{
	return (struct digest){ seen[0] | seen[1] << 32, seen[2] | seen[3] << 32 };
}

uint64_t world_seen(const struct image *im, unsigned file)
{
	uint64_t half = file < 2 ? im->inputs.low : im->inputs.high;

	return file % 2 ? half >> 32 : half & UINT32_MAX;
}

static bool is_always_the_same(const struct fixture *f)
{
	return !strncmp(f->name, "same", 4);
}

bool world_watches(const struct fixture *f, unsigned file)
{
	if (is_always_the_same(f))
		return false;
	for (size_t k = 0; k < f->n_depends; k++) {
		if (world_watches(f->depends[k].fixture, file))
			return true;
	}
	return own_file(f, file);
}

static void look_through(const struct world_job *j, struct image *const *deps, uint64_t *seen)
{
	const struct fixture *f = j->instance->fixture;

	for (unsigned n = 0; n < WORLD_FILES; n++) {
		seen[n] = j->read[n];
		for (size_t k = 0; k < f->n_depends; k++) {
			if (world_watches(f->depends[k].fixture, n) && world_seen(deps[k], n) < seen[n])
				seen[n] = world_seen(deps[k], n);
		}
	}
}

/* A sealed memory file. */
static int some_memory(void)
{
	int fd = fcntl(world.memory, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		wrong("there is no descriptor");
	return fd;
}

static struct image *make_image(const struct world_job *j, uint64_t as)
{
	struct instance *i = j->instance;
	struct model *m = world.model;
	const struct fixture *f = i->fixture;
	struct image *im = image_new(m, some_memory(), WIRE_IMAGE_BLOB, WORLD_IMAGE_BYTES);
	uint64_t seen[WORLD_FILES];

	look_through(j, i->pins, seen);
	im->inputs = pack(seen);
	im->digest = is_always_the_same(f) ? (struct digest){ 1, 1 } : (struct digest){ as, im->inputs.low ^ im->inputs.high << 7 };
	im->section = f->section;
	im->n_depends = f->n_depends;
	im->dep_digests = xcalloc(f->n_depends, sizeof *im->dep_digests);
	for (size_t k = 0; k < f->n_depends; k++)
		im->dep_digests[k] = image_identity(i->pins[k]);
	image_hold_teardown_deps(im, i->pins, f->n_depends);
	im->created = im->used = im->checked = world.now;
	im->checked = j->began;
	image_charge(im, j->what == JOB_OF_OFFER ? i->session->user : NULL, WORLD_IMAGE_BYTES);
	im->title = xstrdup(i->title);
	if (f->teardown || f->source == SOURCE_SERVICE)
		begin_keeper(im);
	if (j->what == JOB_OF_OFFER) {
		im->session = i->session;
		link_insert(&i->session->images, &im->in_session);
		im->of_run = i->run != NULL;
		im->run = i->run ? xstrdup(i->run->id) : j->run ? xstrdup(j->run) : NULL;
		im->teardown = im->of_run;
		im->note_fd = im->of_run ? some_memory() : -1;
		im->note_size = im->of_run ? WORLD_IMAGE_BYTES : 0;
		im->preferred_teardown_client = as % 2 ? j->builder : 0;
		world.n_notes += im->of_run;
	}
	world.n_built++;
	return im;
}

static void built(struct world_job *j, uint64_t as)
{
	struct instance *i = j->instance;
	struct image *im = make_image(j, as);
	char *changed = instance_inputs_changed(i, world.now);

	if (instance_built(i, im, changed))
		instance_propagate(i);
	free(changed);
}

static void compared(const struct world_job *j)
{
	struct instance *i = j->instance;
	bool same = true;

	for (unsigned k = 0; k < WORLD_FILES; k++)
		same &= !own_file(i->fixture, k) || world_seen(i->current, k) == j->read[k];
	if (same) {
		forget(i->watch);
		i->watch = see(i->fixture);
		/* Edits after it has read them are heard of. */
		for (unsigned k = 0; k < WORLD_FILES; k++) {
			if (i->watch->of[k] && world.files[k] != j->read[k])
				i->watch->stamps[k]--;
		}
	}
	instance_compared(i, same, "its inputs differ");
}

static void torn_down(struct image *im)
{
	if (im->instance)
		instance_torn_down(im->instance, NULL);
	end_keeper(im->kept_by);
	im->kept_by = NULL;
	im->died = NULL;
	world.n_torn_down++;
	image_unref(im);
	reclaim_wake(world.model);
}

static void end_check(const struct world_job *j, bool well)
{
	switch (j->verdict) {
	case VERDICT_COMPARE_BYTES:
		compared(j);
		break;
	case VERDICT_RUN_CHECK:
		instance_checked(j->instance, well, j->began, "its check failed");
		break;
	case VERDICT_RUN_RESET:
		instance_was_reset(j->instance, well, "its reset failed");
		break;
	default:
		instance_compared(j->instance, true, NULL);
	}
}

/* There may be room for its image now. */
static void again(struct mem_waiter *r)
{
	struct world_wait *wait = container_of(r, struct world_wait, room);

	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].wait == wait) {
			world_finish(k, world.jobs[k].as);
			return;
		}
	}
	wrong("nobody waits for this memory");
}

static void failed(struct instance *i, const char *sentence, bool no_room)
{
	char *change = instance_inputs_changed(i, world.now);

	instance_build_failed(i, sentence, no_room, change);
	free(change);
}

/* False: it waits for memory, or has failed for want of it. */
static bool has_room(size_t k, uint64_t as)
{
	enum job_kind_of what = world.jobs[k].what;
	struct instance *i = world.jobs[k].instance;
	char *refused = what == JOB_OF_OFFER ? reclaim_for_user(i->session->user, WORLD_IMAGE_BYTES) : NULL;
	int r = what == JOB_OF_BUILD || what == JOB_OF_OFFER ? reclaim_memory(world.model, WORLD_IMAGE_BYTES) : 0;
	struct world_job *j = &world.jobs[k];

	r = refused ? -EDQUOT : r;
	free(refused);
	if (r == -EDQUOT) {
		take_job(k);
		failed(i, "there is no room", true);
	} else if (r == -EAGAIN) {
		if (!j->wait)
			j->wait = xcalloc(1, sizeof *j->wait);
		j->as = as;
		j->wait->room.again = again;
		link_init(&j->wait->room.link);
		reclaim_wait(world.model, &j->wait->room);
	}
	return r == 0;
}

void world_finish(size_t k, uint64_t as)
{
	struct world_job j;

	if (world.jobs[k].wait && !link_empty(&world.jobs[k].wait->room.link))
		return;
	/* Giving others up may have begun more. */
	if (!has_room(k, as))
		return;
	j = take_job(k);
	if (j.what == JOB_OF_TEARDOWN)
		torn_down(j.image);
	else if (j.what == JOB_OF_CHECK)
		end_check(&j, true);
	else
		built(&j, as);
}

void world_fail(size_t k)
{
	struct world_job j = take_job(k);

	if (j.what == JOB_OF_TEARDOWN)
		torn_down(j.image);
	else if (j.what == JOB_OF_CHECK)
		end_check(&j, false);
	else if (j.what == JOB_OF_OFFER)
		instance_builder_lost(j.instance);
	else
		failed(j.instance, "it failed", false);
}

void world_lose(size_t k)
{
	take_job(k);
}

void world_kill(struct instance *i)
{
	struct image *im = i->current ? i->current : i->last;

	if (!im || !im->kept_by || im->died || im->ending)
		return;
	im->kept_by->died = xstrdup("its service has ended");
	im->died = im->kept_by->died;
	instance_service_died(i, im, "its service has ended");
}

/* The loop. */

static int arm(struct loop *l, struct source *s)
{
	(void)l, (void)s;
	return 0;
}

static const struct loop_backend no_backend = { .name = "none", .arm = arm };

/* Of so many calls that it puts off, whatever has happened. */
#define RESTS_AFTER 100000

void world_turn(void)
{
	struct loop *l = world.model->loop;

	timers_run(&l->timers, world.now, INT64_MAX);
	for (int n = 0; !link_empty(&l->deferred); n++) {
		if (n == RESTS_AFTER) {
			fprintf(stderr, "the model never rests\n");
			abort();
		}
		deferred_flush(link_entry(l->deferred.next, struct deferred, link));
	}
}

void world_pass(int64_t ns)
{
	world.now += ns;
	world_turn();
}

static void hint(struct instance *i, void *arg)
{
	const unsigned *file = arg;

	if (i->watch && i->watch->of[*file])
		instance_inputs_event(i);
}

void world_touch(unsigned file)
{
	world.stamps[file]++;
	world.now++;
	link_for_each(l, &world.model->sessions)
		session_each(link_entry(l, struct session, link), hint, &file);
}

void world_edit(unsigned file)
{
	world.files[file]++;
	world_touch(file);
}

/* Beginning and end. */

static void nothing(void *arg)
{
	(void)arg;
}

static struct config *read_config(const char *ini)
{
	char path[] = "/tmp/fixd-model-XXXXXX";
	struct text problems = { 0 };
	struct config *c = NULL;
	int fd = mkstemp(path);

	if (fd < 0 || write(fd, ini, strlen(ini)) != (ssize_t)strlen(ini) || close(fd) < 0 || config_load(path, &c, &problems) < 0) {
		wrong(problems.data ? problems.data : "no configuration");
	}
	text_deinit(&problems);
	unlink(path);
	return c;
}

void world_begin(const char *ini)
{
	struct model *m = xcalloc(1, sizeof *m);
	struct loop *l = xcalloc(1, sizeof *l);

	world = (struct world){ .model = m, .work = xcalloc(1, sizeof *world.work), .now = 1000 * NSEC_PER_SEC };
	world.work->model = m;
	m->work = world.work;
	world.work->trees_lock = -1;
	link_init(&world.work->keepers);
	world.memory = memfd_from_bytes("world", (const char[WORLD_IMAGE_BYTES]){ 0 }, WORLD_IMAGE_BYTES);
	l->backend = &no_backend;
	link_init(&l->sources);
	link_init(&l->closed);
	link_init(&l->refused);
	link_init(&l->deferred);
	m->loop = l;
	m->config = read_config(ini);
	m->effects = &effects;
	m->uid = 0; /* whoever runs this */
	model_init(m);
	m->last_serial = 1;
	m->descriptors_max = 1000;
	deferred_init(&m->changed, nothing, m);
	deferred_init(&m->event_added, nothing, m);
	m->region = region_new(m->config->address_base, REGION_SIZE);
	m->session = session_new(m, m->config->root, 0);
}

struct world world_as_it_is(void)
{
	struct world now = world;

	now.board = xcalloc(now.n_slots + 1, sizeof *now.board);
	for (size_t k = 0; k < now.n_slots; k++)
		now.board[k] = world.board[k];
	return now;
}

void world_begin_again(const char *ini, const struct world *before)
{
	world_begin(ini);
	world.now = before->now;
	world.model->last_serial = (uint64_t)world.now * 1000; /* as every daemon begins, with fewer in that time */
	memcpy(world.files, before->files, sizeof world.files);
	memcpy(world.stamps, before->stamps, sizeof world.stamps);
	world.board = before->board;
	world.n_slots = before->n_slots;
	world.last_value = before->last_value;
	world.roots_gone = before->roots_gone;
	world.n_built = before->n_built;
	world.n_torn_down = before->n_torn_down;
	world.n_notes = before->n_notes;
}

void world_redefine(const char *ini)
{
	struct model *m = world.model;
	struct config *old = m->config;

	m->config = read_config(ini);
	link_for_each(l, &m->sessions)
		session_redefine(link_entry(l, struct session, link), m->config);
	config_free(old);
}

void world_end(void)
{
	struct model *m = world.model;

	while (!link_empty(&m->sessions))
		session_free(link_entry(m->sessions.prev, struct session, link));
	m->session = NULL;
	for (size_t n = 0; world.n_jobs; n++) {
		world_turn();
		world_finish(n % world.n_jobs, 0);
	}
	world_turn();
	if (m->account.n_images || m->account.bytes || m->unused_bytes || m->account.n_keepers || !link_empty(&m->users) ||
	    !link_empty(&m->unused))
		wrong("something is left at the end");
	region_free(m->region);
	config_free(m->config);
	timers_deinit(&m->loop->timers);
	free(m->loop);
	free(m);
	free(world.jobs);
	free(world.board);
	free(world.past_run);
	free(world.work);
	close(world.memory);
}

struct instance *world_instance_in(struct session *s, const struct fixture *f, const char *param, const struct run *run)
{
	char *env[] = { NULL };
	struct instance *i = NULL;
	int r = session_instance(s, f, &(struct instance_lookup){ param, "", env, run, NULL }, &i);

	if (r < 0 && r != -ENOTCONN)
		wrong(f->name);
	return i;
}

struct instance *world_instance(const char *fixture, const char *param)
{
	const struct fixture *f = config_find(world.model->config, fixture);
	struct instance *i = f ? world_instance_in(world.model->session, f, param, NULL) : NULL;

	if (!i)
		wrong(fixture);
	return i;
}
