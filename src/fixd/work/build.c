/* SPDX-License-Identifier: MIT */
#include "fixd/work/build.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "fixd/host/spawn.h"
#include "fixd/host/watch.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/reclaim.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/work/build_state.h"
#include "fixd/work/job_request.h"
#include "fixd/work/keeper.h"
#include "fixd/work/publish.h"
#include "fixd/work/trees.h"
#include "fixd/work/work.h"
#include "image/region.h"
#include "wire/job.h"
#include "wire/socket.h"

#define END_GRACE (20 * NSEC_PER_SEC)
#define PLUGIN_RESERVE_MIN (UINT64_C(64) << 20)

struct builds {
	struct work *work;
	struct link queue;
	struct link running;
	struct link looking; /* at their inputs, before their process and after it */
	size_t n_running;    /* that have a process, or will */
	uint64_t last_turn, own_turn; /* see user::build_turn; of the daemon itself */
	struct deferred pump;
	struct deferred look_on;
};

static void pump(void *arg);
static void build_look_on(void *arg);
static void grant_again(struct mem_waiter *r);

struct builds *builds_new(struct work *w)
{
	struct builds *b = xcalloc(1, sizeof *b);

	b->work = w;
	link_init(&b->queue);
	link_init(&b->running);
	link_init(&b->looking);
	deferred_init(&b->pump, pump, b);
	deferred_init(&b->look_on, build_look_on, b);
	return b;
}

static void pump_soon(struct builds *bs)
{
	loop_defer(bs->work->model->loop, &bs->pump);
}

static void give_up_place(struct build *b)
{
	if (!b->counted)
		return;
	b->counted = false;
	b->builds->n_running--;
	pump_soon(b->builds);
}

void build_free(struct build *b)
{
	struct work *w = b->builds->work;

	give_up_place(b);
	if (b->instance && b->instance->build == b)
		b->instance->build = NULL;
	timer_stop(&b->limit);
	link_remove(&b->room.link);
	source_close(b->process);
	source_close(b->channel);
	source_close(b->errors);
	if (b->address) {
		/* Nobody else has mapped it: the next range may lie there. */
		region_trim(w->model->region, b->address, 0);
		region_release(w->model->region, b->address);
	}
	if (b->tree)
		trees_discard(w, b->tree);
	if (b->keeper)
		keeper_drop(b->keeper);
	for (size_t i = 0; i < b->n_depends; i++)
		image_unref(b->depends[i]);
	account_remove_bytes(w->model, NULL, b->granted);
	link_remove(&b->link);
	watchset_free(b->fresh);
	fd_close(b->image_fd);
	fd_close(b->hold);
	text_deinit(&b->log);
	free(b->depends);
	free(b->sentence);
	free(b->cause);
	free(b->tree);
	free(b);
}

static void kill_group(struct build *b)
{
	if (b->pid > 0)
		kill(-b->pid, SIGKILL);
}

/* The helper of a service has processes outside of its group: it is asked to end them, and has some time for it. */
static void end_process(struct build *b)
{
	if (!b->keeper || !b->keeper->dir || !b->channel || b->asked_to_end) {
		kill_group(b);
		return;
	}
	b->asked_to_end = true;
	shutdown(source_fd(b->channel), SHUT_WR);
	timer_start(b->builds->work->model->loop, &b->limit, clock_now() + b->keeper->time + END_GRACE);
}

/* Its end frees it. */
static void abandon(struct build *b)
{
	/* One that was to stay, whose inputs are being looked at. */
	if (b->over) {
		link_remove(&b->link);
		link_insert(&b->builds->running, &b->link);
		source_resume(b->channel);
		b->over = 0;
	}
	if (b->instance)
		b->instance->build = NULL;
	b->instance = NULL;
	b->fresh = watchset_free(b->fresh); /* it would tell the instance */
	link_remove(&b->room.link);
	end_process(b);
}

void builds_end(struct builds *bs)
{
	link_for_each_safe(l, &bs->queue)
		build_free(link_entry(l, struct build, link));
	link_for_each_safe(l, &bs->running)
		abandon(link_entry(l, struct build, link));
	link_for_each_safe(l, &bs->looking) {
		struct build *b = link_entry(l, struct build, link);

		if (b->pid)
			abandon(b);
		else
			build_free(b);
	}
}

void builds_resume(struct builds *bs)
{
	pump_soon(bs);
}

bool builds_are_over(const struct builds *bs)
{
	return link_empty(&bs->running);
}

struct builds *builds_free(struct builds *bs)
{
	if (!bs)
		return NULL;
	builds_end(bs);
	link_for_each_safe(l, &bs->running) {
		struct build *b = link_entry(l, struct build, link);

		kill_group(b);
		waitpid(b->pid, NULL, 0);
		build_free(b);
	}
	deferred_cancel(&bs->pump);
	deferred_cancel(&bs->look_on);
	free(bs);
	return NULL;
}

static struct build *build_new(struct instance *i, enum purpose purpose, struct image *const *depends)
{
	struct build *b = xcalloc(1, sizeof *b);

	b->builds = i->session->model->work->builds;
	b->instance = i;
	b->purpose = purpose;
	b->image_fd = b->hold = -1;
	b->n_depends = depends ? i->fixture->n_depends : 0;
	b->depends = xcalloc(b->n_depends, sizeof *b->depends);
	b->section = i->fixture->section;
	for (size_t k = 0; k < b->n_depends; k++)
		b->depends[k] = image_ref(depends[k]);
	link_init(&b->room.link);
	b->room.again = grant_again;
	link_insert(&b->builds->queue, &b->link);
	i->build = b;
	pump_soon(b->builds);
	return b;
}

static void to_look(struct build *b)
{
	link_remove(&b->link);
	link_insert(&b->builds->looking, &b->link);
	loop_defer(b->builds->work->model->loop, &b->builds->look_on);
}

void build_queue(struct instance *i)
{
	build_new(i, PURPOSE_BUILD, i->pins);
}

void build_check(struct instance *i, enum verdict what, const char *cause)
{
	static const enum purpose purposes[] = {
		[VERDICT_COMPARE_BYTES] = PURPOSE_COMPARE,
		[VERDICT_RUN_CHECK] = PURPOSE_CHECK,
		[VERDICT_RUN_RESET] = PURPOSE_RESET,
		[VERDICT_LOOK_ON] = PURPOSE_LOOK,
	};
	struct build *b = build_new(i, purposes[what], i->pins);

	b->cause = cause ? xstrdup(cause) : NULL;
	/* It has no process, and need not wait for those of others. */
	if (b->purpose == PURPOSE_LOOK)
		to_look(b);
}

void build_abandon(struct instance *i)
{
	struct build *b = i->build;

	if (!b)
		return;
	if (b->pid) {
		abandon(b);
		return;
	}
	i->build = NULL;
	b->instance = NULL;
	build_free(b);
}

bool build_withdraw(struct instance *i)
{
	struct build *b = i->build;

	if (!b || b->counted || b->purpose != PURPOSE_BUILD)
		return false;
	build_abandon(i);
	return true;
}

uint64_t build_progress(const struct instance *i)
{
	return i->build ? i->build->granted : 0;
}

/* A process and what it says. */

static void build_read_errors(void *arg)
{
	struct build *b = arg;
	char buf[4096];
	ssize_t n;

	while ((n = read(source_fd(b->errors), buf, sizeof buf)) > 0)
		text_add_and_forget(&b->log, buf, (size_t)n, INSTANCE_LOG_MAX);
	if (n == 0)
		b->errors = source_close(b->errors);
}

static void grant(struct build *b, uint64_t total)
{
	struct work *w = b->builds->work;
	struct job_granted answer = { 0 };

	if (total > b->granted) {
		answer.error = total > b->limit_bytes ? -EDQUOT : reclaim_memory(w->model, total - b->granted);
		if (answer.error == -EAGAIN) {
			b->wanted = total;
			reclaim_wait(w->model, &b->room);
			return;
		}
		b->no_room |= answer.error && total <= b->limit_bytes;
		if (answer.error == 0) {
			account_add_bytes(w->model, NULL, total - b->granted);
			b->granted = total;
		}
	}
	if (socket_send(source_fd(b->channel), &answer, sizeof answer, NULL, 0, MSG_DONTWAIT) < 0)
		kill_group(b);
}

static void grant_again(struct mem_waiter *r)
{
	struct build *b = container_of(r, struct build, room);

	if (b->channel)
		grant(b, b->wanted);
}

static void take_result(struct build *b, const char *message, size_t size, int *fds)
{
	size_t length = size - sizeof b->result;

	if (b->have_result)
		return;
	memcpy(&b->result, message, sizeof b->result);
	if (length > JOB_SENTENCE_MAX)
		length = JOB_SENTENCE_MAX;
	b->sentence = xstrndup(message + sizeof b->result, length);
	b->image_fd = fd_steal(&fds[0]);
	b->hold = fd_steal(&fds[1]);
	b->have_result = true;
}

static void publish_kept(struct build *b);

static void build_read_channel(void *arg)
{
	struct build *b = arg;
	char message[sizeof(struct job_result) + JOB_SENTENCE_MAX];
	uint32_t kind;

	for (;;) {
		int fds[2] = { -1, -1 };
		size_t n_fds = ELEMENTSOF(fds);
		ssize_t n = socket_receive(source_fd(b->channel), message, sizeof message, fds, &n_fds, MSG_DONTWAIT);

		for (size_t k = n_fds; k < ELEMENTSOF(fds); k++)
			fds[k] = -1;
		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			b->channel = source_close(b->channel);
			return;
		}
		memcpy(&kind, message, (size_t)n < sizeof kind ? (size_t)n : sizeof kind);
		if (kind == JOB_GRANT && n == sizeof(struct job_grant) && b->instance) {
			struct job_grant g;

			memcpy(&g, message, sizeof g);
			grant(b, g.total);
		} else if (kind == JOB_RESULT && (size_t)n >= sizeof(struct job_result)) {
			take_result(b, message, (size_t)n, fds);
		} else {
			end_process(b); /* a plugin has spoken out of turn */
		}
		fd_close(fds[0]);
		fd_close(fds[1]);
		/* Such a process stays. */
		if (b->have_result && !b->result.error && b->keeper && b->pid && b->instance && !b->asked_to_end) {
			publish_kept(b);
			return;
		}
	}
}

static void on_build_limit(void *arg)
{
	struct build *b = arg;

	b->timed_out = true;
	end_process(b);
}

static void on_build_exit_of(void *arg);

static enum job_kind job_kind(const struct build *b)
{
	static const enum job_kind kinds[SOURCE_COUNT] = {
		[SOURCE_FILE] = JOB_FILE,
		[SOURCE_DIRECTORY] = JOB_DIRECTORY,
		[SOURCE_COMMAND] = JOB_COMMAND,
		[SOURCE_TREE] = JOB_TREE,
		[SOURCE_PLUGIN] = JOB_PLUGIN,
		[SOURCE_SERVICE] = JOB_SERVICE,
	};

	if (b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET)
		return JOB_CHECK;
	return b->purpose == PURPOSE_COMPARE ? JOB_DIGEST : kinds[b->instance->fixture->source];
}

static int brief(const struct build *b, int channel)
{
	const struct brief what = {
		.instance = b->instance,
		.kind = job_kind(b),
		.command = b->purpose == PURPOSE_CHECK ? b->instance->fixture->policy.check :
			   b->purpose == PURPOSE_RESET ? b->instance->fixture->reset : NULL,
		.keeper = b->keeper,
		.image = b->purpose == PURPOSE_BUILD ? NULL : b->instance->current,
		.watch = b->purpose == PURPOSE_COMPARE ? b->fresh : b->instance->watch,
		.depends = b->depends,
		.n_depends = b->n_depends,
		.tree = b->tree,
		.address = b->address,
		.most = b->most,
		.limit_bytes = b->limit_bytes,
	};

	return brief_send(&what, channel);
}

int64_t build_time_limit(const struct build *b)
{
	const struct policy *p = &b->instance->fixture->policy;

	return b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET ? p->check_timeout : p->timeout;
}

static int start_process(struct build *b)
{
	struct builds *bs = b->builds;
	struct loop *loop = bs->work->model->loop;
	struct spawned child;
	const struct fixture *f = b->instance->fixture;
	enum spawn_flags flags = f->source == SOURCE_PLUGIN ? SPAWN_STEADY : f->source == SOURCE_SERVICE ? SPAWN_OWN_IPC : 0;
	int r = spawn_helper(f->user, b->purpose == PURPOSE_BUILD ? flags : 0, &child);

	if (r < 0)
		return r;
	b->pid = child.pid;
	b->started = clock_now();
	b->process = loop_watch(loop, child.pidfd, on_build_exit_of, b);
	b->errors = loop_watch(loop, child.errors, build_read_errors, b);
	b->channel = loop_watch(loop, child.channel, build_read_channel, b);
	timer_init(&b->limit, on_build_limit, b);
	timer_start(loop, &b->limit, b->started + build_time_limit(b));
	link_remove(&b->link);
	link_insert(&bs->running, &b->link);
	if (b->purpose == PURPOSE_BUILD)
		event_of_instance(b->instance, NULL, EVENT_BUILD, NULL);
	/* If it cannot be told what to do, its end says that it published nothing. */
	r = brief(b, child.channel);
	if (r < 0) {
		b->sentence = xasprintf("the job cannot be sent to the builder: %s", strerror(-r));
		kill_group(b);
	}
	return 0;
}

/* All plugins that run at the same time find a range, with as much again for what is there. */
static uint64_t plugin_reserve(const struct work *w)
{
	uint64_t share = REGION_SIZE / (2 * w->model->config->jobs);

	return share > PLUGIN_RESERVE_MIN ? share : PLUGIN_RESERVE_MIN;
}

/* Everything a build needs before its process starts. NULL, or a sentence. */
static char *prepare_build(struct build *b)
{
	struct instance *i = b->instance;
	const struct fixture *f = i->fixture;
	struct work *w = b->builds->work;

	b->limit_bytes = f->policy.memory_max < w->model->config->memory_max ? f->policy.memory_max : w->model->config->memory_max;
	if (b->limit_bytes > REGION_SIZE / 4)
		b->limit_bytes = REGION_SIZE / 4;
	reclaim_descriptors(w->model);
	if (f->source == SOURCE_DIRECTORY || f->source == SOURCE_TREE) {
		int r = trees_make(w, f->name, f->user, &b->tree);

		if (r < 0)
			return xasprintf("no directory for its tree on a tmpfs: %s", strerror(-r));
	}
	if (keeper_is_needed(f)) {
		char *wrong = NULL;

		b->keeper = keeper_prepare(i, &wrong);
		if (!b->keeper)
			return wrong;
	}
	b->most = b->limit_bytes;
	if (f->source == SOURCE_PLUGIN && b->most > plugin_reserve(w))
		b->most = plugin_reserve(w);
	b->most = (b->most + REGION_ALIGN - 1) / REGION_ALIGN * REGION_ALIGN;
	/*
	 * Objects are built where they will be mapped, and nobody knows how large they become: as many addresses as there are to
	 * be had. Bytes get their place when they are there.
	 */
	while (f->source == SOURCE_PLUGIN && !(b->address = region_alloc(w->model->region, b->most)) && b->most > PLUGIN_RESERVE_MIN)
		b->most = b->most / 2 / REGION_ALIGN * REGION_ALIGN;
	if (f->source == SOURCE_PLUGIN && !b->address)
		return xasprintf("no range of addresses is left for it; address-base or memory-max must be smaller");
	/* Before its process reads them: later edits are noticed. */
	watcher_catch_up(w->watcher);
	watchset_free(i->watch);
	i->watch = watchset_new(w->watcher, f->inputs, f->policy.watch, WATCH_NAMES_MAX, NULL, instance_inputs_event, i);
	return NULL;
}

static void look_afresh(struct build *b)
{
	const struct fixture *f = b->instance->fixture;
	struct watcher *w = b->builds->work->watcher;

	watcher_catch_up(w);
	b->fresh = watchset_new(w, f->inputs, f->policy.watch, WATCH_NAMES_MAX, NULL, instance_inputs_event, b->instance);
}

/* `wrong` is freed. */
static void cannot_start(struct build *b, char *wrong)
{
	struct instance *i = b->instance;

	i->build = NULL;
	if (b->purpose == PURPOSE_BUILD)
		instance_build_failed(i, wrong, false, clock_now());
	else
		instance_compared(i, false, wrong);
	free(wrong);
	build_free(b);
}

/* Its inputs were looked at, so that later edits are noticed: its process may read them. */
static void begin_process(struct build *b)
{
	struct instance *i = b->instance;
	char *wrong = b->purpose == PURPOSE_BUILD && i->watch ? watchset_too_large(i->watch) : NULL;
	int r = wrong ? 0 : start_process(b);

	if (r < 0)
		wrong = xasprintf("its builder cannot be started: %s", strerror(-r));
	if (wrong)
		cannot_start(b, wrong);
}

/* True: its look is over, and it has gone on to what comes next. */
static bool build_look(struct build *b, int64_t until)
{
	struct watchset *set = b->fresh ? b->fresh : b->instance->watch;

	if (set && !watchset_look(set, b->over ? b->over : INT64_MIN, until))
		return false;
	link_remove(&b->link);
	if (b->over) {
		publish_build(b);
	} else if (b->purpose == PURPOSE_LOOK) {
		struct instance *i = b->instance;

		i->build = NULL;
		build_free(b);
		instance_compared(i, true, NULL);
	} else {
		begin_process(b);
	}
	return true;
}

/* One after the other, in slices. */
static void build_look_on(void *arg)
{
	struct builds *bs = arg;
	int64_t until = loop_turn_began(bs->work->model->loop) + LOOK_SLICE;

	while (!link_empty(&bs->looking) && build_look(link_entry(bs->looking.next, struct build, link), until)) {
		if (clock_now() >= until)
			break;
	}
	if (!link_empty(&bs->looking))
		loop_defer(bs->work->model->loop, &bs->look_on);
}

static void build_start(struct build *b)
{
	char *wrong = NULL;

	b->counted = true;
	b->builds->n_running++;
	if (b->purpose == PURPOSE_BUILD)
		wrong = prepare_build(b);
	else if (b->purpose == PURPOSE_COMPARE)
		look_afresh(b);
	if (wrong)
		cannot_start(b, wrong);
	else if (b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET)
		begin_process(b);
	else
		to_look(b);
}

/* Users take turns, whatever the first of them has asked for: the one whose last build began before those of the others is next. */
static struct build *next_in_turn(struct builds *bs)
{
	struct build *next = NULL;
	uint64_t *turn = NULL;

	link_for_each(l, &bs->queue) {
		struct build *b = link_entry(l, struct build, link);
		struct user *u = instance_asker(b->instance);
		uint64_t *his = u ? &u->build_turn : &bs->own_turn;

		if (!next || *his < *turn) {
			next = b;
			turn = his;
		}
	}
	*turn = ++bs->last_turn;
	return next;
}

static void pump(void *arg)
{
	struct builds *bs = arg;

	while (!bs->work->model->restarting && !link_empty(&bs->queue) && bs->n_running < bs->work->model->config->jobs)
		build_start(next_in_turn(bs));
}

/* What it has published is an image when it is known that its inputs have not changed. */
static void build_is_over(struct build *b)
{
	timer_stop(&b->limit);
	b->over = clock_now();
	if (!build_look(b, b->over + LOOK_SLICE))
		to_look(b);
}

/* The build is over, though its process is not: what that says from now on is for its keeper. */
static void publish_kept(struct build *b)
{
	build_read_errors(b);
	give_up_place(b);
	source_pause(b->channel);
	build_is_over(b);
}

static void on_build_exit_of(void *arg)
{
	struct build *b = arg;
	struct builds *bs = b->builds;

	spawn_reap(b->pid, &b->status);
	/* Children it left behind go with it. */
	kill_group(b);
	b->pid = 0;
	if (b->channel)
		build_read_channel(b);
	if (b->errors)
		build_read_errors(b);
	give_up_place(b);
	if (!b->instance) {
		build_free(b);
		loop_defer(bs->work->model->loop, &bs->work->ended);
	} else if (b->purpose == PURPOSE_BUILD) {
		b->process = source_close(b->process);
		b->channel = source_close(b->channel);
		b->errors = source_close(b->errors);
		if (!b->over)
			build_is_over(b);
	} else {
		b->instance->build = NULL;
		publish_check(b);
	}
}
