/* SPDX-License-Identifier: MIT */
#include "base/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"

static int write_file(const char *path, const char *text)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

int userns_map(uid_t uid, gid_t gid)
{
	_cleanup_free_ char *uids = xasprintf("%u %u 1", (unsigned)uid, (unsigned)uid),
			    *gids = xasprintf("%u %u 1", (unsigned)gid, (unsigned)gid);
	int r = write_file("/proc/self/setgroups", "deny");

	if (r == 0 || r == -ENOENT)
		r = write_file("/proc/self/uid_map", uids);
	return r == 0 ? write_file("/proc/self/gid_map", gids) : r;
}
