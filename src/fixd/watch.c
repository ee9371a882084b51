/* SPDX-License-Identifier: MIT */
#include "fixd/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/link.h"
#include "base/log.h"
#include "base/text.h"
#include "base/vector.h"
#include "fixd/host/snapshot.h"
#include "fixd/host/survey.h"
#include "fixd/host/viewer.h"
#include "fixd/loop/loop.h"
#include "wire/record.h"

#define MASK_SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define MASK_NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define MASK_CONTENT (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)

#define LINKS_MAX 40 /* as the kernel */

struct watcher {
	struct loop *loop;
	struct source *source; /* NULL: no inotify */
	int fd;
	int mounts; /* /proc/self/mountinfo, which says when something is mounted; or -1 */
	void *wds; /* tree of struct wd */
	struct link sets;
	bool warned;
	uint64_t epoch; /* of the loop, at the last drain */
};

/* One inotify watch: an inode, for everybody who wants to hear of it. */
struct wd {
	int wd;
	struct link subs;
};

struct sub {
	struct link in_wd;  /* wd::subs */
	struct link in_set; /* watchset::subs */
	struct wd *wd;
	struct watchset *set;
	char *path;
	char *name; /* of interest in that directory; NULL: everything */
	bool whole; /* a directory whose entries all belong to the set */
};

/* Paths that something happened to, before all of them are looked at. */
#define TOUCHED_MAX 256

struct watchset {
	struct link link; /* watcher::sets */
	struct viewer *viewer; /* with whose rights; NULL: the daemon's */
	struct vector touched; /* paths that something happened to */
	bool look_at_all;      /* or it is not known to which */
	struct watcher *watcher;
	char **patterns;
	struct snapshot seen;
	struct survey *survey; /* the look at hand, or NULL */
	bool complete;	       /* the first one is over */
	int64_t look_began, looked; /* the look at hand; and the last one, when it began */
	struct link subs;
	struct link old_subs; /* that the look at hand replaces */
	size_t most; /* names */
	bool too_large;
	bool polled;
	bool hinted;  /* something happened since the last look */
	bool renamed; /* and names came or went: there may be more to watch */
	bool notify;  /* the hint is still to be passed on */
	char *changed;
	void (*hint)(void *arg);
	void *arg;
};

static int by_wd(const void *a, const void *b)
{
	int x = ((const struct wd *)a)->wd, y = ((const struct wd *)b)->wd;

	return x < y ? -1 : x > y;
}

static void no_more_watches(struct watchset *s, int err)
{
	s->polled = true;
	if (s->watcher->warned)
		return;
	s->watcher->warned = true;
	log_warn(err, "inotify cannot watch everything (see fs.inotify.max_user_watches); these files are looked at on every attach");
}

static void subscribe(struct watchset *s, const char *path, const char *name, uint32_t mask)
{
	struct watcher *w = s->watcher;
	struct wd key, **found, *wd;
	struct sub *sub;

	if (s->polled)
		return;
	if (!viewer_may_see(s->viewer, path, true)) {
		s->polled = true;
		return;
	}
	key.wd = w->source ? inotify_add_watch(w->fd, path, mask | IN_MASK_ADD) : -1;
	if (key.wd < 0) {
		if (!w->source || (errno != ENOENT && errno != ENOTDIR && errno != EACCES))
			no_more_watches(s, w->source ? -errno : 0);
		else if (errno == EACCES)
			s->polled = true;
		return;
	}
	found = tfind(&key, &w->wds, by_wd);
	if (found) {
		wd = *found;
	} else {
		wd = xcalloc(1, sizeof *wd);
		wd->wd = key.wd;
		link_init(&wd->subs);
		tsearch(wd, &w->wds, by_wd);
	}
	sub = xcalloc(1, sizeof *sub);
	sub->wd = wd;
	sub->set = s;
	sub->path = xstrdup(path);
	sub->name = name ? xstrdup(name) : NULL;
	sub->whole = (mask & MASK_NAMES) && (mask & MASK_CONTENT);
	link_insert(&wd->subs, &sub->in_wd);
	link_insert(&s->subs, &sub->in_set);
}

static void unsubscribe(struct sub *sub)
{
	struct watcher *w = sub->set->watcher;
	struct wd *wd = sub->wd;

	link_remove(&sub->in_wd);
	link_remove(&sub->in_set);
	if (link_empty(&wd->subs)) {
		inotify_rm_watch(w->fd, wd->wd);
		tdelete(wd, &w->wds, by_wd);
		free(wd);
	}
	free(sub->path);
	free(sub->name);
	free(sub);
}

/* Every directory that is passed on the way to `path`, links followed as the kernel does. */
static void subscribe_way(struct watchset *s, const char *path, int depth)
{
	_cleanup_free_ char *rest = xstrdup(path);
	_cleanup_text_ struct text at = { 0 };
	char *save = NULL;

	for (char *part = strtok_r(rest, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		char target[PATH_MAX];
		ssize_t n;

		if (!strcmp(part, "."))
			continue;
		subscribe(s, at.size ? at.data : "/", part, MASK_NAMES | MASK_SELF);
		text_printf(&at, "/%s", part);
		n = viewer_may_see(s->viewer, at.data, false) ? readlink(at.data, target, sizeof target - 1) : -1;
		if (n <= 0 || depth >= LINKS_MAX)
			continue;
		/* Start again with the link's target in its place. */
		target[n] = '\0';
		at.data[at.size - strlen(part) - 1] = '\0';
		_cleanup_free_ char *left = save && *save ? xstrdup(save) : xstrdup("");
		_cleanup_free_ char *next = *target == '/' ? xasprintf("%s/%s", target, left) :
							     xasprintf("%s/%s/%s", at.data, target, left);

		subscribe_way(s, next, depth + 1);
		return;
	}
}

/*
 * Does this file system tell of every change? Only of these it is known (linux/magic.h, and the file systems' own sources): ext2 to 4, tmpfs,
 * ramfs, XFS, Btrfs, F2FS, Bcachefs, ZFS, JFS, ReiserFS, NILFS, FAT, exFAT, and what nobody writes to: squashfs, EROFS, ISO 9660. An
 * overlay does not tell of its lower layers, a network's file system not of other machines.
 */
static bool inotify_works(const char *path)
{
	static const unsigned long with[] = { 0xef53,	  0x01021994, 0x858458f6, 0x58465342, 0x9123683e, 0xf2f52010, 0xca451a4e, 0x2fc12fc1,
					      0x3153464a, 0x52654973, 0x3434,	  0x4d44,     0x2011bab0, 0x73717368, 0xe0f5e1e2, 0x9660 };
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return true;
	for (size_t i = 0; i < ELEMENTSOF(with); i++) {
		if ((unsigned long)fs.f_type == with[i])
			return true;
	}
	return false;
}

static void watch_way(void *set, const char *path)
{
	subscribe_way(set, path, 0);
}

static void watch_content(void *set, const char *path)
{
	struct watchset *s = set;

	subscribe(s, path, NULL, MASK_CONTENT | MASK_SELF);
	if (!inotify_works(path))
		s->polled = true;
}

static void watch_names(void *set, const char *path)
{
	subscribe(set, path, NULL, MASK_NAMES | MASK_SELF);
}

static void watch_tree(void *set, const char *path)
{
	subscribe(set, path, NULL, MASK_NAMES | MASK_SELF | MASK_CONTENT);
}

static const struct survey_watch watches = { watch_way, watch_content, watch_names, watch_tree };

static void unsubscribe_all(struct link *subs)
{
	link_for_each_safe(l, subs)
		unsubscribe(link_entry(l, struct sub, in_set));
}

static void forget_touched(struct watchset *s)
{
	for (size_t k = 0; k < s->touched.n; k++)
		free(s->touched.all[k]);
	s->touched.n = 0;
	s->look_at_all = false;
}

/* One path that something happened to. NULL: it is as it was. */
static char *look_at_one(const struct watchset *s, const char *path)
{
	const struct look *was = snapshot_find(&s->seen, path);
	struct stat st;
	struct look is;
	const char *what;

	if (was) {
		is = viewer_may_see(s->viewer, path, false) && lstat(path, &st) == 0 && S_ISLNK(st.st_mode) && !was->is_dir && was->mode &&
			     S_ISLNK(was->mode) ? look_at_link(path, &st) : look_at(s->viewer, path);
		what = look_difference(was, &is);
		free(is.path);
	} else {
		/* It is new in a tree, or has gone again. */
		what = viewer_may_see(s->viewer, path, false) && lstat(path, &st) == 0 ? "appeared" : NULL;
	}
	return what ? xasprintf("%s %s", path, what) : NULL;
}

static char *look_at_touched(struct watchset *s)
{
	char *changed = NULL;

	if (!viewer_begin(s->viewer))
		return xstrdup("what it watches cannot be looked at any more");
	for (size_t k = 0; !changed && k < s->touched.n; k++)
		changed = look_at_one(s, s->touched.all[k]);
	viewer_end(s->viewer);
	return changed;
}

/* What happens from now on is not of this look, and stays for the next one. */
static void begin_look(struct watchset *s)
{
	s->look_began = clock_now();
	/* A directory that is new may be where the next file appears. */
	if (s->renamed) {
		link_insert(&s->subs, &s->old_subs);
		link_remove(&s->subs); /* `old_subs` is now the head of what was there */
	}
	s->survey = survey_new(s->viewer, s->patterns, s->most, s->renamed ? &watches : NULL, s);
	forget_touched(s);
	s->hinted = s->renamed = false;
}

static void end_look(struct watchset *s)
{
	struct snapshot now;

	s->too_large |= survey_too_large(s->survey);
	now = survey_take(s->survey);
	s->survey = NULL;
	unsubscribe_all(&s->old_subs);
	s->looked = s->look_began;
	s->changed = snapshot_compare(&s->seen, &now);
	snapshot_deinit(&now);
}

/* What it sees first is what later looks are compared with. */
static void end_first_look(struct watchset *s)
{
	s->too_large |= survey_too_large(s->survey);
	s->seen = survey_take(s->survey);
	s->survey = NULL;
	s->complete = true;
	/* What was written meanwhile may look as it did. */
	for (size_t k = 0; s->hinted && k < s->seen.n; k++)
		s->seen.all[k].written = s->look_at_all;
	for (size_t k = 0; k < s->touched.n; k++) {
		struct look *found = snapshot_find(&s->seen, s->touched.all[k]);

		if (found)
			found->written = true;
	}
}

bool watchset_look(struct watchset *s, int64_t asked, int64_t until)
{
	if (s->changed)
		return true;
	if (!s->survey && !s->hinted && (!s->polled || s->looked >= asked))
		return true;
	/* Of many files usually few are concerned. */
	if (!s->survey && !s->polled && !s->look_at_all) {
		s->changed = look_at_touched(s);
		forget_touched(s);
		s->hinted = false;
		return true;
	}
	if (!s->survey)
		begin_look(s);
	if (!survey_step(s->survey, until))
		return false;
	if (s->complete)
		end_look(s);
	else
		end_first_look(s);
	return true;
}

char *watchset_changed(struct watchset *s, int64_t asked)
{
	/* Where a look was at hand that began before, another one follows. */
	if (s->survey)
		watchset_look(s, asked, INT64_MAX);
	watchset_look(s, asked, INT64_MAX);
	return watchset_known_change(s);
}

char *watchset_known_change(const struct watchset *s)
{
	return s->changed ? xstrdup(s->changed) : NULL;
}

struct watchset *watchset_new(struct watcher *w, char *const *files, char *const *patterns, size_t most, struct viewer *viewer,
			      void (*hint)(void *arg), void *arg)
{
	struct watchset *s = xcalloc(1, sizeof *s);
	size_t n_files = list_count(files), n_patterns = list_count(patterns);

	s->watcher = w;
	s->most = most;
	s->viewer = viewer;
	s->hint = hint;
	s->arg = arg;
	s->patterns = xcalloc(n_files + n_patterns + 1, sizeof *s->patterns);
	for (size_t i = 0; i < n_files; i++)
		s->patterns[i] = xstrdup(files[i]);
	for (size_t i = 0; i < n_patterns; i++)
		s->patterns[n_files + i] = xstrdup(patterns[i]);
	link_init(&s->subs);
	link_init(&s->old_subs);
	link_insert(&w->sets, &s->link);
	s->survey = survey_new(viewer, s->patterns, most, &watches, s);
	return s;
}

static void save_viewer(const struct viewer *v, struct text *out)
{
	size_t mark = record_begin(out, SAVED_VIEWER, RECORD_LIST);

	record_u64(out, SAVED_VIEWER, v->uid);
	record_u64(out, SAVED_VIEWER, v->gid);
	for (size_t k = 0; k < v->n_groups; k++)
		record_u64(out, SAVED_VIEWER, v->groups[k]);
	record_end(out, mark);
}

static struct viewer *restore_viewer(const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	size_t room = saved->size / 8 + 1, n = 0;
	_cleanup_free_ gid_t *ids = xcalloc(room, sizeof *ids);
	struct record r;
	bool bad = false;

	while (n < room && record_next(&in, &r, &bad))
		ids[n++] = (gid_t)r.number;
	return n < 2 ? viewer_new((uid_t)-2, (gid_t)-2, NULL, 0) : viewer_new(ids[0], ids[1], ids + 2, n - 2);
}

struct viewer *watchset_saved_viewer(const struct record *saved)
{
	struct record_reader in = record_inside(saved);
	struct record r;
	bool bad = false;

	while (record_next(&in, &r, &bad)) {
		if (r.field == SAVED_VIEWER)
			return restore_viewer(&r);
	}
	return NULL;
}

void watchset_save(const struct watchset *s, struct text *out)
{
	if (s->viewer)
		save_viewer(s->viewer, out);
	snapshot_save(&s->seen, out);
}

void watchset_restore(struct watchset *s, const struct record *saved)
{
	struct snapshot now;
	bool bad;

	watchset_look(s, INT64_MIN, INT64_MAX);
	now = s->seen;
	s->seen = (struct snapshot){ 0 };
	bad = !snapshot_restore(&s->seen, saved);
	/* What has changed meanwhile, nobody was told of. */
	s->changed = bad ? xstrdup("what it watches is not known") : snapshot_compare(&s->seen, &now);
	snapshot_deinit(&now);
}

char *watchset_too_large(const struct watchset *s)
{
	return s->too_large ? xasprintf("what it watches has more than %zu names to look through", s->most) : NULL;
}

struct watchset *watchset_free(struct watchset *s)
{
	if (!s)
		return NULL;
	survey_free(s->survey);
	unsubscribe_all(&s->old_subs);
	unsubscribe_all(&s->subs);
	link_remove(&s->link);
	snapshot_deinit(&s->seen);
	list_free(s->patterns);
	forget_touched(s);
	vector_deinit(&s->touched);
	free(s->viewer);
	free(s->changed);
	free(s);
	return NULL;
}

char **watchset_files(const struct watchset *s)
{
	char **files = xcalloc(s->seen.n + 1, sizeof *files);
	size_t n = 0;

	for (size_t i = 0; i < s->seen.n; i++) {
		if (i && !strcmp(s->seen.all[i].path, s->seen.all[i - 1].path))
			continue;
		files[n++] = xstrdup(s->seen.all[i].path);
	}
	return files;
}

/* What happened may concern the one path, or anything. */
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
	s->notify = true;
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
	return name ? xasprintf("%s/%s", sub->path, name) : xstrdup(sub->path);
}

static void note_write(struct sub *sub, const char *name)
{
	_cleanup_free_ char *path = path_of_event(sub, name);
	struct look *found = snapshot_find(&sub->set->seen, path);

	if (found)
		found->written = true;
}

/* A file of the set, or one in a directory that belongs to it as a whole: only that one is to be looked at. */
static void note_touched(struct sub *sub, const struct inotify_event *e)
{
	const struct look *of = snapshot_find(&sub->set->seen, sub->path);
	bool alone = of && !sub->name && !(e->mask & (MASK_SELF | IN_ISDIR)) && (of->is_dir ? e->len > 0 && sub->whole : !(e->mask & MASK_NAMES));

	touch(sub->set, alone ? path_of_event(sub, e->len ? e->name : NULL) : NULL);
}

static void take_event(struct watcher *w, const struct inotify_event *e)
{
	struct wd key = { .wd = e->wd }, **found;

	if (e->mask & IN_Q_OVERFLOW) {
		hint_all(w);
		return;
	}
	found = tfind(&key, &w->wds, by_wd);
	if (!found)
		return;
	link_for_each(l, &(*found)->subs) {
		struct sub *sub = link_entry(l, struct sub, in_wd);

		if (sub->name && e->len && strcmp(sub->name, e->name) != 0)
			continue;
		hint_set(sub->set);
		note_touched(sub, e);
		if (e->mask & MASK_NAMES)
			sub->set->renamed = true;
		if (e->mask & IN_MODIFY)
			note_write(sub, e->len ? e->name : NULL);
	}
}

/* Hints are passed on after all events were taken: a hint may free sets. */
static void pass_on(struct watcher *w)
{
	for (struct link *l = w->sets.next; l != &w->sets;) {
		struct watchset *s = link_entry(l, struct watchset, link);

		l = l->next;
		if (!s->notify)
			continue;
		s->notify = false;
		s->hint(s->arg);
		l = w->sets.next; /* the list may have changed */
	}
}

void watcher_catch_up(struct watcher *w)
{
	_Alignas(struct inotify_event) char buf[16384];
	int pending = 0;
	bool any = false;
	ssize_t n;

	/* What comes meanwhile is for the next time: somebody may write without end. */
	if (!w->source || ioctl(w->fd, FIONREAD, &pending) < 0)
		return;
	for (ssize_t taken = 0; taken < pending && (n = read(w->fd, buf, sizeof buf)) > 0; taken += n) {
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *e = (const struct inotify_event *)p;

			take_event(w, e);
			p += sizeof *e + e->len;
		}
		any = true;
	}
	if (any)
		pass_on(w);
}

/* What is mounted over a directory changes everything below, and inotify does not tell. */
void watcher_look_at_mounts(struct watcher *w)
{
	struct pollfd p = { .fd = w->mounts, .events = POLLPRI };

	if (w->mounts < 0 || link_empty(&w->sets) || poll(&p, 1, 0) <= 0)
		return;
	link_for_each(l, &w->sets) {
		struct watchset *s = link_entry(l, struct watchset, link);

		hint_set(s);
		touch(s, NULL);
		s->renamed = true;
	}
	pass_on(w);
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
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		log_warn(-errno, "no inotify: watched files are looked at on every attach");
	else
		w->source = loop_watch(loop, w->fd, on_readable, w);
	w->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	return w;
}

struct watcher *watcher_free(struct watcher *w)
{
	if (!w)
		return NULL;
	source_close(w->source);
	fd_close(w->mounts);
	free(w);
	return NULL;
}
