/* SPDX-License-Identifier: MIT */
/* What a process may do with a file that the kernel does not say it of: an image, or a tree of another user. */
#include "preload/shim.h"

#include <unistd.h>

static bool is_in_group(gid_t group, bool effective)
{
	gid_t groups[256];
	int n;

	if (group == (effective ? getegid() : getgid()))
		return true;
	for (n = getgroups(256, groups); n > 0; n--) {
		if (groups[n - 1] == group)
			return true;
	}
	return false;
}

int rights_allow(const struct stat *st, int mode, bool effective)
{
	uid_t uid = effective ? geteuid() : getuid();
	mode_t bits = uid == st->st_uid ? st->st_mode >> 6 : is_in_group(st->st_gid, effective) ? st->st_mode >> 3 : st->st_mode;

	if (mode & ~07) {
		errno = EINVAL;
		return -1;
	}
	if (uid == 0)
		bits = 06 | (S_ISDIR(st->st_mode) || (st->st_mode & 0111) ? 01 : 0);
	if (((bits & 07) & (mode_t)mode) == (mode_t)mode)
		return 0;
	errno = EACCES;
	return -1;
}
