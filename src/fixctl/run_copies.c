/* SPDX-License-Identifier: MIT */
/*
 * Where the shim copies to. A tree of which one part is on another file system than the rest is one that find -xdev, cp -x and git do
 * not look through: so copies lie on the file system that the trees are on, where there is room for what may be written, and otherwise
 * in the scratch directory.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/tree.h"
#include "fixctl/run.h"

#define ROOM_MIN (UINT64_C(1) << 30)

/* A link to them in the scratch directory, with which they are removed. */
#define LINK "copies"

/* As the daemon looks for a place for trees. */
static const char *candidate(size_t k)
{
	const char *places[] = { getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run" };

	return places[k];
}

static bool is_fit(const char *base, dev_t device)
{
	struct statvfs room;
	struct stat st;

	return base && *base == '/' && stat(base, &st) == 0 && st.st_dev == device && access(base, W_OK | X_OK) == 0 &&
	       statvfs(base, &room) == 0 && !(room.f_flag & ST_NOEXEC) && (uint64_t)room.f_bavail * room.f_frsize >= ROOM_MIN;
}

/* Its names are those of the scratch directory. tmpfs has attributes of users from Linux 6.6 on; programs may want them. */
static int make(struct scratch *s, const char *base)
{
	_cleanup_free_ char *link = xasprintf("%s/" LINK, s->path), *outer = xasprintf("%s%s", base, strrchr(s->path, '/')),
			    *inner = xasprintf("%s%s", outer, strrchr(s->inner, '/'));
	int r;

	if (symlink(outer, link) < 0)
		return -errno;
	if (mkdir(outer, 0700) < 0) {
		r = -errno;
		unlink(link);
		return r;
	}
	if (setxattr(outer, "user.fixd", "1", 1, 0) < 0 || mkdir(inner, 0700) < 0 || chmod(inner, 0711) < 0 || chmod(outer, 0711) < 0) {
		r = -errno;
		copies_remove(s->path);
		unlink(link);
		return r;
	}
	free(s->copies);
	s->copies = xstrdup(inner);
	return 0;
}

void copies_place(struct scratch *s, const char *tree)
{
	struct stat of_tree, of_scratch;

	if (stat(tree, &of_tree) < 0 || stat(s->path, &of_scratch) < 0 || of_tree.st_dev == of_scratch.st_dev)
		return;
	for (size_t k = 0; k < 3; k++) {
		if (is_fit(candidate(k), of_tree.st_dev) && make(s, candidate(k)) == 0)
			return;
	}
}

char *copies_own(const struct scratch *s, size_t i)
{
	return xasprintf("%s/own-%zu", s->copies, i);
}

void copies_remove(const char *scratch)
{
	_cleanup_free_ char *link = xasprintf("%s/" LINK, scratch);
	const char *name = strrchr(scratch, '/'), *found;
	char outer[PATH_MAX];
	ssize_t n = readlink(link, outer, sizeof outer - 1);

	outer[n > 0 ? n : 0] = '\0';
	found = strrchr(outer, '/');
	if (found && !strcmp(found, name))
		tree_remove(outer);
}
