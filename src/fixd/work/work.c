/* SPDX-License-Identifier: MIT */
#include "fixd/work/work.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "fixd/host/board.h"
#include "fixd/host/ring.h"
#include "fixd/host/viewer.h"
#include "fixd/host/watch.h"
#include "fixd/host/worker.h"
#include "fixd/model/events.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"
#include "fixd/work/build.h"
#include "fixd/work/client_build.h"
#include "fixd/work/keeper.h"
#include "fixd/work/recovery.h"
#include "fixd/work/survivor.h"
#include "fixd/work/trees.h"

static void work_abandon(struct instance *i)
{
	build_abandon(i);
	offer_abandon(i);
}

static void work_tear_down(struct image *im)
{
	keeper_end(im->kept_by);
}

/* With the rights of its user: in a daemon with a /tmp or /home of its own, none of a client's may ever have been there. */
static int work_look_at_root(const struct session *s)
{
	struct stat st;
	int r = -EACCES;

	if (s->user->limited && !s->viewer)
		return r;
	if (!viewer_begin(s->viewer))
		return r;
	if (viewer_may_see(s->viewer, s->root, false))
		r = stat(s->root, &st) < 0 ? -errno : 0;
	viewer_end(s->viewer);
	return r;
}

static uint64_t show_new(struct work *w, uint32_t *slot)
{
	if (*slot == BOARD_NO_SLOT)
		*slot = board_take(w->board);
	return board_publish(w->board, *slot);
}

static void work_show(struct work *w, uint32_t slot, uint64_t value)
{
	board_show(w->board, slot, value);
}

static void show_no_more(struct work *w, uint32_t slot)
{
	board_give_back(w->board, slot);
}

static bool is_dying(struct image *im)
{
	return keeper_is_dying(im->kept_by);
}

const struct effects work_effects = {
	.now = clock_now,
	.real = clock_real,
	.build = build_queue,
	.withdraw = build_withdraw,
	.check = build_check,
	.abandon = work_abandon,
	.tear_down = work_tear_down,
	.look_at_root = work_look_at_root,
	.look = watchset_look_briefly,
	.found = watchset_known_change,
	.changed = watchset_changed,
	.forget = watchset_free,
	.show_new = show_new,
	.show = work_show,
	.show_no_more = show_no_more,
	.remove_tree = trees_discard,
	.is_dying = is_dying,
	.is_blocked = recovery_blocks,
};

void work_init(struct work *w, struct model *m)
{
	w->model = m;
	link_init(&w->keepers);
	link_init(&w->recoveries);
	link_init(&w->survivors);
	link_init(&w->transfers);
	link_init(&w->relocations);
	w->trees_lock = -1;
	w->watcher = watcher_new(m->loop);
	w->worker = worker_new(m->loop);
	w->builds = builds_new(w);
}

int work_open_events(struct work *w, int fd)
{
	w->event_memory = ring_new(fd, EVENTS_HEAD, EVENTS_SIZE);
	if (!w->event_memory)
		return -ENOMEM;
	w->model->events = events_new(w->event_memory->head, w->event_memory->bytes, w->event_memory->resumed);
	return 0;
}

void work_close_events(struct work *w)
{
	w->model->events = events_free(w->model->events);
	w->event_memory = ring_free(w->event_memory);
}

void work_end(struct work *w)
{
	survivors_end(w);
	builds_end(w->builds);
}

bool work_is_over(const struct work *w)
{
	return w->builds && builds_are_over(w->builds) && link_empty(&w->keepers);
}

void work_deinit(struct work *w)
{
	transfers_free(w);
	survivors_end(w);
	w->builds = builds_free(w->builds);
	/* Only where the loop has failed are there any left. */
	keepers_abandon(w);
	w->worker = worker_free(w->worker);
	w->watcher = watcher_free(w->watcher);
}
