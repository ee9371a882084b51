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

/* Databases have some 30; of what has more it is not told. */
#define DIRECTORIES_MAX 64

#define WATCHED (IN_OPEN | IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR | IN_DONT_FOLLOW)

int touch_new(void)
{
	return inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
}

/* False: there are too many. */
static bool add_directories(struct vector *dirs, const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;

	while (d && dirs->n <= DIRECTORIES_MAX && (e = readdir(d))) {
		if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			vector_add(dirs, xasprintf("%s/%s", dir, e->d_name));
	}
	if (d)
		closedir(d);
	return d && dirs->n <= DIRECTORIES_MAX;
}

void touch_watch(int touch, const char *dir)
{
	struct vector dirs = { 0 };
	bool all = touch >= 0;
	int last = -1;

	if (all)
		vector_add(&dirs, xstrdup(dir));
	for (size_t k = 0; k < dirs.n && all; k++)
		all = add_directories(&dirs, dirs.all[k]);
	for (size_t k = 0; k < dirs.n && all; k++)
		all = (last = inotify_add_watch(touch, dirs.all[k], WATCHED)) >= 0;
	/* That tells the other side that nothing can be told. */
	if (touch >= 0 && !all) {
		last = last >= 0 ? last : inotify_add_watch(touch, "/", WATCHED);
		inotify_rm_watch(touch, last);
	}
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
