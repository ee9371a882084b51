/* SPDX-License-Identifier: MIT */
/* What inotify tells, and to whom it is passed on. */
#include "fixd/host/subscription.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/log.h"
#include "base/path.h"
#include "base/text.h"
#include "fixd/host/mount_table.h"

static void touch(struct watchset *s, char *path)
{
	if (!path || s->touched.n >= TOUCHED_MAX) {
		s->look_at_all = true;
		free(path);
		return;
	}
	vector_add(&s->touched, path);
}

static void hint_set(struct watchset *s)
{
	s->hinted = true;
	if (link_empty(&s->in_told))
		link_insert(&s->watcher->told, &s->in_told);
}

static void hint_all(struct watcher *w)
{
	link_for_each(l, &w->sets) {
		struct watchset *s = link_entry(l, struct watchset, link);

		hint_set(s);
		touch(s, NULL);
		s->renamed = true;
		for (size_t i = 0; i < s->seen.n; i++)
			s->seen.all[i].written = true;
	}
}

static char *path_of_event(const struct sub *sub, const char *name)
{
	return name ? xasprintf("%s/%s", strcmp(sub->path, "/") ? sub->path : "", name) : xstrdup(sub->path);
}

/*
 * A link has been made anew: may it lead, or have led, elsewhere? One that was replaced by one to the same place does not; but two that are
 * heard of at once may have led elsewhere in between.
 */
static bool leads_elsewhere(struct sub *sub)
{
	uint64_t heard = sub->wd->watcher->heard;
	bool twice = sub->made_anew && sub->made_anew + 1 >= heard, away = sub->away;
	_cleanup_free_ char *path = path_of_event(sub, sub->name);
	char target[PATH_MAX];
	ssize_t n = readlink(path, target, sizeof target - 1);

	sub->made_anew = heard;
	sub->away = false;
	return twice || away || n != (ssize_t)strlen(sub->target) || memcmp(target, sub->target, (size_t)n) != 0;
}

/* What stands at that path from now on may look as what was there before, as may all that is in it. */
static void note_path(struct sub *sub, const char *path)
{
	struct watchset *s = sub->hearing->set;

	if (s->complete)
		watchset_note(s, path);
	else if (s->modified.n < WATCH_NAMES_MAX) /* it is not known yet what it sees */
		vector_add(&s->modified, xstrdup(path));
}

/* A name on the way to what is watched has got something new. */
static void note_way(struct sub *sub, const char *path)
{
	bool was_there = sub->there;

	sub->there = true;
	if (sub->target ? leads_elsewhere(sub) : sub->behind && was_there)
		watchset_note_move(sub->hearing->set, path);
	else if (!sub->target && !sub->behind)
		note_path(sub, path);
}

/* Something was written, or a name has got something new, or something that was away: what stood in its place may have been read. */
static void note_return(struct sub *sub, const struct inotify_event *e)
{
	bool returns = e->mask & (IN_MOVED_TO | IN_CREATE), on_the_way = sub->name && !sub->pattern;
	_cleanup_free_ char *path = NULL;

	if (sub->target && (e->mask & (IN_DELETE | IN_MOVED_FROM)))
		sub->away = true;
	/* A link that a part of a pattern matches is on the way itself, too. */
	if ((!returns && !(e->mask & IN_MODIFY)) || (returns && sub->pattern && !sub->last && !(e->mask & IN_ISDIR)))
		return;
	path = path_of_event(sub, e->len ? e->name : NULL);
	if (returns && on_the_way)
		note_way(sub, path);
	else
		note_path(sub, path);
}

/*
 * The file itself, one in a directory that belongs to the set as a whole, or one that the last part of a pattern matches: only that one
 * is to be looked at.
 */
static void note_touched(struct sub *sub, const struct inotify_event *e)
{
	bool alone = !(e->mask & (MASK_SELF | IN_ISDIR)) && (sub->name		      ? sub->pattern && sub->last && e->len
							     : sub->mask == MASK_TREE ? e->len > 0
										      : !(e->mask & MASK_NAMES));

	touch(sub->hearing->set, alone ? path_of_event(sub, e->len ? e->name : NULL) : NULL);
}

/* The inode may be watched for others, who hear of something else. */
static bool concerns(const struct sub *sub, const struct inotify_event *e)
{
	if (!sub->hearing->set || !(e->mask & (sub->mask | IN_IGNORED | IN_UNMOUNT)))
		return false;
	if (!sub->name || !e->len)
		return true;
	return sub->pattern ? glob_match_file(sub->name, e->name) : strcmp(sub->name, e->name) == 0;
}

static void take_event(struct watcher *w, const struct inotify_event *e)
{
	struct wd *wd;

	if (e->mask & IN_Q_OVERFLOW) {
		hint_all(w);
		return;
	}
	wd = subscriptions_of(w, e->wd);
	if (!wd)
		return;
	link_for_each(l, &wd->subs) {
		struct sub *sub = link_entry(l, struct sub, in_wd);

		if (!concerns(sub, e))
			continue;
		hint_set(sub->hearing->set);
		note_touched(sub, e);
		if (e->mask & MASK_NAMES)
			sub->hearing->set->renamed = true;
		note_return(sub, e);
	}
}

/*
 * Hints are passed on after all events were taken (a hint may free sets), some in a turn: whoever asks for an instance looks for
 * itself, whether its hint was passed on or not.
 */
static void watch_tell(void *arg)
{
	struct watcher *w = arg;
	int64_t until = loop_turn_began(w->loop) + LOOK_SLICE;

	while (!link_empty(&w->told)) {
		struct watchset *s = link_entry(w->told.next, struct watchset, in_told);

		link_remove(&s->in_told);
		s->hint(s->arg);
		if (clock_now() >= until)
			break;
	}
	if (!link_empty(&w->told))
		loop_defer(w->loop, &w->telling);
}

void watcher_catch_up(struct watcher *w)
{
	_Alignas(struct inotify_event) char buf[16384];
	int pending = 0;
	bool any = false;
	ssize_t n = 0;

	/* What comes meanwhile is for the next time: somebody may write without end. */
	if (!w->source)
		return;
	w->heard++;
	/* What cannot be heard may have been anything. */
	if (ioctl(w->fd, FIONREAD, &pending) < 0) {
		hint_all(w);
		watch_tell(w);
		return;
	}
	for (ssize_t taken = 0; taken < pending && (n = read(w->fd, buf, sizeof buf)) > 0; taken += n) {
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			take_event(w, e);
			p += sizeof *e + e->len;
		}
		any = true;
	}
	if (n < 0 && errno != EAGAIN) {
		hint_all(w);
		any = true;
	}
	if (any)
		watch_tell(w);
}

/* May the pattern name anything there, or below, or on the way to it? */
static bool pattern_leads_to(const char *pattern, const char *place)
{
	_cleanup_free_ char *plain = xstrndup(pattern, strcspn(pattern, "*?[\\"));
	char *end = strrchr(plain, '/');

	/* The last part of it may be one of which only the beginning is plain. */
	if (pattern[strlen(plain)] && end)
		end[end == plain] = '\0';
	return *pattern == '/' && (strstr(pattern, "/..") || path_below(plain, place) || path_below(place, plain));
}

/* What is mounted over a directory changes everything below, and inotify does not tell. `place`: NULL, if it is not known where. */
static void watcher_note_mount(void *watcher, const char *place)
{
	struct watcher *w = watcher;

	link_for_each(l, &w->sets) {
		struct watchset *s = link_entry(l, struct watchset, link);
		bool concerned = !place || s->linked || s->deaf;

		for (char **p = s->patterns; *p && !concerned; p++)
			concerned = pattern_leads_to(*p, place);
		if (!concerned)
			continue;
		hint_set(s);
		touch(s, NULL);
		s->renamed = true;
	}
}

void watcher_look_at_mounts(struct watcher *w)
{
	if (!w->mounts || link_empty(&w->sets))
		return;
	if (!mount_table_look(w->mounts, watcher_note_mount, w))
		watcher_note_mount(w, NULL);
	if (!link_empty(&w->told))
		watch_tell(w);
}

void watcher_drain(struct watcher *w)
{
	if (w->epoch == loop_epoch(w->loop))
		return;
	w->epoch = loop_epoch(w->loop);
	watcher_look_at_mounts(w);
	watcher_catch_up(w);
}

static void on_readable(void *arg)
{
	watcher_catch_up(arg);
}

struct watcher *watcher_new(struct loop *loop)
{
	struct watcher *w = xcalloc(1, sizeof *w);

	w->loop = loop;
	link_init(&w->sets);
	link_init(&w->graves);
	link_init(&w->told);
	deferred_init(&w->burying, subscriptions_bury, w);
	deferred_init(&w->telling, watch_tell, w);
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		log_warn(-errno, "no inotify: watched files are looked at on every attach");
	else
		w->source = loop_watch(loop, w->fd, on_readable, w);
	w->mounts = mount_table_new();
	return w;
}

struct watcher *watcher_free(struct watcher *w)
{
	if (!w)
		return NULL;
	subscriptions_bury_until(w, INT64_MAX);
	deferred_cancel(&w->burying);
	deferred_cancel(&w->telling);
	source_close(w->source);
	mount_table_free(w->mounts);
	free(w);
	return NULL;
}
