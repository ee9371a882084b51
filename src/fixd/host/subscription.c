/* SPDX-License-Identifier: MIT */
#include "fixd/host/subscription.h"

#include <errno.h>
#include <limits.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "fixd/host/viewer.h"

#define LINKS_MAX 40 /* as the kernel */

static int by_wd(const void *a, const void *b)
{
	int x = ((const struct wd *)a)->wd, y = ((const struct wd *)b)->wd;

	return x < y ? -1 : x > y;
}

static void no_more_watches(struct watchset *s, int err)
{
	s->polled = s->deaf = true;
	if (s->watcher->warned)
		return;
	s->watcher->warned = true;
	log_warn(err, "inotify cannot watch everything (see fs.inotify.max_user_watches); these files are looked at on every attach");
}

struct wd *subscriptions_of(struct watcher *w, int number)
{
	struct wd key = { .wd = number }, **found = tfind(&key, &w->wds, by_wd);

	return found ? *found : NULL;
}

static struct wd *get_wd(struct watcher *w, int number)
{
	struct wd *wd = subscriptions_of(w, number);

	if (wd)
		return wd;
	wd = xcalloc(1, sizeof *wd);
	wd->wd = number;
	wd->watcher = w;
	link_init(&wd->subs);
	tsearch(wd, &w->wds, by_wd);
	return wd;
}

static bool is_subscribed(const struct wd *wd, const struct watchset *s, const char *name, uint32_t mask)
{
	link_for_each(l, &wd->subs) {
		const struct sub *sub = link_entry(l, struct sub, in_wd);

		if (sub->hearing->set == s && sub->mask == mask && (name ? sub->name && !strcmp(name, sub->name) : !sub->name))
			return true;
	}
	return false;
}

/* Of what the viewer may see there. A number, or -errno. */
static int add_watch(const struct watchset *s, const char *path, uint32_t mask)
{
	const struct watcher *w = s->watcher;
	_cleanup_fd_ int fd = -1;
	char name[FD_PATH_SIZE];
	int number;

	if (!w->source)
		return -ENOSYS;
	if (s->viewer) {
		fd = viewer_open(s->viewer, path, true, true);
		if (fd < 0)
			return fd;
		path = fd_path(fd, name);
	}
	number = inotify_add_watch(w->fd, path, mask | IN_MASK_ADD);
	/* What was opened is there: without /proc it cannot be watched. */
	if (number < 0 && errno == ENOENT && fd >= 0)
		return -ENODEV;
	return number < 0 ? -errno : number;
}

struct sub *subscribe(struct watchset *s, const char *path, const char *name, enum name_kind kind, uint32_t mask)
{
	struct watcher *w = s->watcher;
	struct sub *sub;
	struct wd *wd;
	int number;

	if (s->deaf)
		return NULL;
	number = add_watch(s, path, mask);
	if (number < 0) {
		if (number == -EACCES)
			s->polled = true;
		else if (number != -ENOENT && number != -ENOTDIR)
			no_more_watches(s, w->source ? number : 0);
		return NULL;
	}
	wd = get_wd(w, number);
	if (s->again && is_subscribed(wd, s, name, mask))
		return NULL;
	sub = xcalloc(1, sizeof *sub);
	sub->wd = wd;
	sub->hearing = s->hearing;
	sub->path = xstrdup(path);
	sub->name = name ? xstrdup(name) : NULL;
	sub->pattern = kind != A_NAME;
	sub->last = kind == LAST_PATTERN;
	sub->mask = mask;
	link_insert(&wd->subs, &sub->in_wd);
	link_insert(&s->hearing->subs, &sub->in_set);
	return sub;
}

static void unsubscribe(struct sub *sub)
{
	struct wd *wd = sub->wd;
	struct watcher *w = wd->watcher;

	link_remove(&sub->in_wd);
	link_remove(&sub->in_set);
	if (link_empty(&wd->subs)) {
		inotify_rm_watch(w->fd, wd->wd);
		tdelete(wd, &w->wds, by_wd);
		free(wd);
	}
	free(sub->path);
	free(sub->name);
	free(sub->target);
	free(sub);
}

bool subscriptions_bury_until(struct watcher *w, int64_t until)
{
	for (unsigned n = 1; !link_empty(&w->graves); n++) {
		struct grave *g = link_entry(w->graves.next, struct grave, link);

		if (g->hearing && !link_empty(&g->hearing->subs)) {
			unsubscribe(link_entry(g->hearing->subs.next, struct sub, in_set));
		} else if (g->seen.n > 0) {
			free(g->seen.all[--g->seen.n].path);
		} else {
			snapshot_deinit(&g->seen);
			link_remove(&g->link);
			free(g->hearing);
			free(g);
		}
		if (n % 16 == 0 && clock_now() >= until)
			return false;
	}
	return true;
}

void subscriptions_bury(void *arg)
{
	struct watcher *w = arg;

	if (!subscriptions_bury_until(w, loop_turn_began(w->loop) + LOOK_SLICE))
		loop_defer(w->loop, &w->burying);
}

struct hearing *hearing_new(struct watchset *s)
{
	struct hearing *h = xcalloc(1, sizeof *h);

	link_init(&h->subs);
	h->set = s;
	return h;
}

void hearing_leave(struct watcher *w, struct hearing *h, struct snapshot *seen)
{
	struct grave *g = xcalloc(1, sizeof *g);

	link_init(&g->link);
	g->hearing = h;
	if (h)
		h->set = NULL;
	g->seen = *seen;
	*seen = (struct snapshot){ 0 };
	link_insert(&w->graves, &g->link);
	loop_defer(w->loop, &w->burying);
}

void subscribe_way(struct watchset *s, const char *path, int depth)
{
	_cleanup_free_ char *rest = xstrdup(path);
	_cleanup_text_ struct text at = { 0 };
	char *save = NULL;

	for (char *part = strtok_r(rest, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
		struct sub *sub;
		char target[PATH_MAX];
		ssize_t n;

		if (!strcmp(part, "."))
			continue;
		sub = subscribe(s, at.size ? at.data : "/", part, A_NAME, MASK_NAMES | MASK_SELF);
		text_printf(&at, "/%s", part);
		errno = EACCES;
		n = viewer_may_see(s->viewer, at.data, false) ? readlink(at.data, target, sizeof target - 1) : -1;
		if (sub) {
			sub->behind = depth > 0;
			sub->there = n >= 0 || errno != ENOENT;
			sub->target = n > 0 ? xstrndup(target, (size_t)n) : NULL;
		}
		s->linked |= n > 0;
		if (n <= 0 || depth >= LINKS_MAX)
			continue;
		/* Start again with the link's target in its place. */
		target[n] = '\0';
		at.data[at.size - strlen(part) - 1] = '\0';
		_cleanup_free_ char *left = save && *save ? xstrdup(save) : xstrdup("");
		_cleanup_free_ char *next =
			*target == '/' ? xasprintf("%s/%s", target, left) : xasprintf("%s/%s/%s", at.data, target, left);

		subscribe_way(s, next, depth + 1);
		return;
	}
}

/*
 * Does this file system tell of every change? Only of these it is known (linux/magic.h, and the file systems' own sources): ext2 to 4, tmpfs,
 * ramfs, XFS, Btrfs, F2FS, Bcachefs, ZFS, JFS, ReiserFS, NILFS, FAT, exFAT, and what nobody writes to: squashfs, EROFS, ISO 9660. An
 * overlay does not tell of its lower layers, a network's file system not of other machines.
 */
bool changes_are_told(const char *path)
{
	static const unsigned long with[] = { 0xef53,	  0x01021994, 0x858458f6, 0x58465342, 0x9123683e, 0xf2f52010,
					      0xca451a4e, 0x2fc12fc1, 0x3153464a, 0x52654973, 0x3434,	  0x4d44,
					      0x2011bab0, 0x73717368, 0xe0f5e1e2, 0x9660 };
	struct statfs fs;

	if (statfs(path, &fs) < 0)
		return true;
	for (size_t i = 0; i < ELEMENTSOF(with); i++) {
		if ((unsigned long)fs.f_type == with[i])
			return true;
	}
	return false;
}
