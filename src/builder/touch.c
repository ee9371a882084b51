/* SPDX-License-Identifier: MIT */
#include "builder/touch.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/vector.h"

/* Databases have some 30 directories, with a thousand entries; of what has more it is not told. */
#define DIRECTORIES_MAX 64
#define ENTRIES_MAX 4096

#define WATCHED (IN_OPEN | IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR | IN_DONT_FOLLOW)

/* Of nothing: its end tells the other side that nothing can be told. */
#define SENTINEL 1

int touch_new(void)
{
	_cleanup_fd_ int touch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	return touch >= 0 && inotify_add_watch(touch, "/", IN_DELETE_SELF) == SENTINEL ? fd_steal(&touch) : -1;
}

/* False: there are too many, or one that may be anything. */
static bool add_directories(struct vector *dirs, const char *dir, size_t *entries)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	bool right = d != NULL;

	while (right && (e = readdir(d))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		right = ++*entries <= ENTRIES_MAX && e->d_type != DT_UNKNOWN && e->d_type != DT_LNK;
		if (right && e->d_type == DT_DIR) {
			vector_add(dirs, xasprintf("%s/%s", dir, e->d_name));
			right = dirs->n <= DIRECTORIES_MAX;
		}
	}
	if (d)
		closedir(d);
	return right;
}

void touch_watch(int touch, const char *dir)
{
	struct vector dirs = { 0 };
	size_t entries = 0;
	bool all = true;

	if (touch < 0)
		return;
	vector_add(&dirs, xstrdup(dir));
	for (size_t k = 0; k < dirs.n && all; k++)
		all = add_directories(&dirs, dirs.all[k], &entries);
	for (size_t k = 0; k < dirs.n && all; k++)
		all = inotify_add_watch(touch, dirs.all[k], WATCHED) >= 0;
	if (!all)
		inotify_rm_watch(touch, SENTINEL);
	for (size_t k = 0; k < dirs.n; k++)
		free(dirs.all[k]);
	vector_deinit(&dirs);
}

void touch_read(int *touch)
{
	_Alignas(struct inotify_event) char buf[4096];
	ssize_t n;

	while ((n = read(*touch, buf, sizeof buf)) > 0) {
		const struct inotify_event *e;

		for (const char *at = buf; at < buf + n; at += sizeof *e + e->len) {
			e = (const struct inotify_event *)at;
			/* Directories are also opened by us, who reckon what it takes. */
			if ((e->mask & (IN_OPEN | IN_ISDIR)) == (IN_OPEN | IN_ISDIR))
				continue;
			*touch = fd_close(*touch);
			return;
		}
	}
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		*touch = fd_close(*touch);
}
