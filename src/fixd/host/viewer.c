/* SPDX-License-Identifier: MIT */
#include "fixd/host/viewer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"

#define GROUPS_MAX 65536 /* NGROUPS_MAX of the kernel */

struct viewer *viewer_new(uid_t uid, gid_t gid, const gid_t *groups, size_t n)
{
	struct viewer *v = xcalloc(1, sizeof *v + n * sizeof *groups);

	v->uid = uid;
	v->gid = gid;
	v->n_groups = n;
	if (n)
		memcpy(v->groups, groups, n * sizeof *groups);
	return v;
}

struct viewer *viewer_dup(const struct viewer *v)
{
	return v ? viewer_new(v->uid, v->gid, v->groups, v->n_groups) : NULL;
}

struct viewer *viewer_of_peer(int fd)
{
	struct ucred peer = { .uid = (uid_t)-1, .gid = (gid_t)-1 };
	socklen_t size = sizeof peer, groups_size = GROUPS_MAX * sizeof(gid_t);
	_cleanup_free_ gid_t *groups = NULL;

	/* One that is not known may see nothing. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return viewer_new((uid_t)-2, (gid_t)-2, NULL, 0);
	if (peer.uid == geteuid() || peer.uid == 0)
		return NULL;
	groups = xcalloc(GROUPS_MAX, sizeof *groups);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_size) < 0)
		groups_size = 0;
	return viewer_new(peer.uid, peer.gid, groups, groups_size / sizeof *groups);
}

/* Of this thread only: not by libc, which would change all of them. */
static void set_identity(uid_t uid, gid_t gid)
{
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
}

static bool has_identity(uid_t uid, gid_t gid)
{
	/* An invalid number changes nothing, and the answer is what was there (setfsuid(2)). */
	return (uid_t)syscall(SYS_setfsuid, (uid_t)-1) == uid && (gid_t)syscall(SYS_setfsgid, (gid_t)-1) == gid;
}

static gid_t own_groups[256];
static int n_own_groups = -1;

bool viewer_begin(const struct viewer *v)
{
	if (!v || geteuid() != 0)
		return true;
	if (n_own_groups < 0)
		n_own_groups = getgroups((int)ELEMENTSOF(own_groups), own_groups);
	if (n_own_groups < 0 || syscall(SYS_setgroups, v->n_groups, v->groups) < 0)
		return false;
	set_identity(v->uid, v->gid);
	if (has_identity(v->uid, v->gid))
		return true;
	viewer_end(v);
	return false;
}

void viewer_end(const struct viewer *v)
{
	if (!v || geteuid() != 0)
		return;
	set_identity(geteuid(), getegid());
	if (syscall(SYS_setgroups, (size_t)n_own_groups, own_groups) < 0 || !has_identity(geteuid(), getegid())) {
		log_error(-errno, "the daemon's own identity cannot be taken on again");
		abort();
	}
}

static bool is_in_group(const struct viewer *v, gid_t gid)
{
	for (size_t k = 0; k < v->n_groups; k++) {
		if (v->groups[k] == gid)
			return true;
	}
	return v->gid == gid;
}

/* As the kernel does it (path_resolution(7)); where a list of access rights says more, the answer is no. `wanted`: of S_IRWXO. */
static bool is_permitted(const struct viewer *v, const char *path, mode_t wanted)
{
	struct stat st;
	mode_t mode;

	if (lstat(path, &st) < 0)
		return false;
	if (S_ISLNK(st.st_mode))
		return true;
	mode = st.st_uid == v->uid ? st.st_mode >> 6 : is_in_group(v, st.st_gid) ? st.st_mode >> 3 : st.st_mode;
	return (mode & wanted) == wanted && lgetxattr(path, "system.posix_acl_access", NULL, 0) < 0;
}

/* All directories on the way, links not followed. Changes `path` meanwhile. */
static bool is_passable(const struct viewer *v, char *path)
{
	for (char *p = *path ? strchr(path + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
		bool permitted;

		*p = '\0';
		permitted = is_permitted(v, path, S_IXOTH);
		*p = '/';
		if (!permitted)
			return false;
	}
	return true;
}

/* As it is written, and where its links lead. What is not there is seen by who may search its directory. */
bool viewer_may_see(const struct viewer *v, const char *path, bool read)
{
	char way[PATH_MAX], real[PATH_MAX];
	char *slash;

	if (!v || geteuid() == 0)
		return true;
	if (strlen(path) >= sizeof way)
		return false;
	strcpy(way, path);
	if (!is_passable(v, way))
		return false;
	if (realpath(path, real))
		return is_passable(v, real) && is_permitted(v, real, read ? S_IROTH : 0);
	slash = strrchr(way, '/');
	if (!slash || slash == way)
		return true;
	*slash = '\0';
	return realpath(way, real) && is_passable(v, real) && is_permitted(v, real, S_IXOTH);
}
