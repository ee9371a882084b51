/* SPDX-License-Identifier: MIT */
/* The queue of builds and checks: who is next, and what is looked at before a process begins. */
#include <stdlib.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "fixd/host/watch.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/work/build.h"
#include "fixd/work/build_state.h"
#include "fixd/work/publish.h"
#include "fixd/work/work.h"

static void queue_start_next(void *arg);
static void queue_look_on(void *arg);

struct builds *builds_new(struct work *w)
{
	struct builds *b = xcalloc(1, sizeof *b);

	b->work = w;
	link_init(&b->queue);
	link_init(&b->running);
	link_init(&b->looking);
	deferred_init(&b->pump, queue_start_next, b);
	deferred_init(&b->look_on, queue_look_on, b);
	return b;
}

void queue_pump(struct builds *bs)
{
	loop_defer(bs->work->model->loop, &bs->pump);
}

void queue_give_up_place(struct build *b)
{
	if (!b->counted)
		return;
	b->counted = false;
	b->builds->n_running--;
	queue_pump(b->builds);
}

/* Its end frees it. */
static void queue_abandon(struct build *b)
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
	build_end_process(b);
}

void builds_end(struct builds *bs)
{
	link_for_each_safe(l, &bs->queue)
		build_free(link_entry(l, struct build, link));
	link_for_each_safe(l, &bs->running)
		queue_abandon(link_entry(l, struct build, link));
	link_for_each_safe(l, &bs->looking) {
		struct build *b = link_entry(l, struct build, link);

		if (b->pid)
			queue_abandon(b);
		else
			build_free(b);
	}
}

void builds_resume(struct builds *bs)
{
	queue_pump(bs);
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

		build_kill_group(b);
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
	b->image_fd = b->hold = b->parts = -1;
	b->n_depends = depends ? i->fixture->n_depends : 0;
	b->depends = xcalloc(b->n_depends, sizeof *b->depends);
	b->section = i->fixture->section;
	for (size_t k = 0; k < b->n_depends; k++)
		b->depends[k] = image_ref(depends[k]);
	link_init(&b->room.link);
	b->room.again = build_grant_again;
	link_insert(&b->builds->queue, &b->link);
	i->build = b;
	queue_pump(b->builds);
	return b;
}

void queue_to_look(struct build *b)
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
		queue_to_look(b);
}

void build_abandon(struct instance *i)
{
	struct build *b = i->build;

	if (!b)
		return;
	if (b->pid) {
		queue_abandon(b);
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

static void look_afresh(struct build *b)
{
	const struct fixture *f = b->instance->fixture;
	struct watcher *w = b->builds->work->watcher;

	watcher_catch_up(w);
	b->fresh = watchset_new(w, f->inputs, f->policy.watch, WATCH_NAMES_MAX, NULL, instance_inputs_event, b->instance);
}

/* True: its look is over, and it has gone on to what comes next. */
bool queue_look(struct build *b, int64_t until)
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
		build_begin_process(b);
	}
	return true;
}

/* One after the other, in slices. */
static void queue_look_on(void *arg)
{
	struct builds *bs = arg;
	int64_t until = loop_turn_began(bs->work->model->loop) + LOOK_SLICE;

	while (!link_empty(&bs->looking) && queue_look(link_entry(bs->looking.next, struct build, link), until)) {
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
		wrong = build_prepare(b);
	else if (b->purpose == PURPOSE_COMPARE)
		look_afresh(b);
	if (wrong)
		build_cannot_start(b, wrong);
	else if (b->purpose == PURPOSE_CHECK || b->purpose == PURPOSE_RESET)
		build_begin_process(b);
	else
		queue_to_look(b);
}

/* Users take turns, whatever the first of them has asked for: the one whose last build began before those of the others is next. */
static struct build *next_in_turn(struct builds *bs)
{
	struct build *next = NULL;
	uint64_t *turn = NULL;

	link_for_each(l, &bs->queue) {
		struct build *b = link_entry(l, struct build, link);
		struct user *u = instance_asker(b->instance);
		uint64_t *its = u ? &u->build_turn : &bs->own_turn;

		if (!next || *its < *turn) {
			next = b;
			turn = its;
		}
	}
	*turn = ++bs->last_turn;
	return next;
}

static void queue_start_next(void *arg)
{
	struct builds *bs = arg;

	while (!bs->work->model->restarting && !link_empty(&bs->queue) && bs->n_running < bs->work->model->config->jobs)
		build_start(next_in_turn(bs));
}
