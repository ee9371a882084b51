/* SPDX-License-Identifier: MIT */
#include "fixd/host/viewer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "wire/record.h"

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

void viewer_save(const struct viewer *v, uint16_t field, struct text *out)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	record_u64(out, field, v->uid);
	record_u64(out, field, v->gid);
	for (size_t k = 0; k < v->n_groups; k++)
		record_u64(out, field, v->groups[k]);
	record_end(out, mark);
}

struct viewer *viewer_restore(const struct record *saved)
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

static bool take_own_identity(void)
{
	set_identity(geteuid(), getegid());
	return syscall(SYS_setgroups, (size_t)n_own_groups, own_groups) == 0 && has_identity(geteuid(), getegid());
}

/* For want of memory the kernel may refuse it for a moment. */
#define TRIES 100

void viewer_end(const struct viewer *v)
{
	int tries = 0;

	if (!v || geteuid() != 0)
		return;
	while (!take_own_identity() && ++tries < TRIES)
		;
	if (tries == TRIES) {
		log_error(-errno, "the daemon's own identity cannot be taken on again");
		abort();
	}
}

static bool viewer_is_in_group(const struct viewer *v, gid_t gid)
{
	for (size_t k = 0; k < v->n_groups; k++) {
		if (v->groups[k] == gid)
			return true;
	}
	return v->gid == gid;
}

#define LINKS_MAX 40 /* as the kernel */

/* As the kernel does it (path_resolution(7)); where a list of access rights says more, the answer is no. `wanted`: of S_IRWXO. */
static bool is_permitted(const struct viewer *v, int fd, mode_t wanted)
{
	char path[FD_PATH_SIZE];
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0)
		return false;
	if (S_ISLNK(st.st_mode) || !wanted)
		return true;
	mode = st.st_uid == v->uid ? st.st_mode >> 6 : viewer_is_in_group(v, st.st_gid) ? st.st_mode >> 3 : st.st_mode;
	return (mode & wanted) == wanted && getxattr(fd_path(fd, path), "system.posix_acl_access", NULL, 0) < 0;
}

/* The text of the link takes the place of its name in `rest`. 0 or -errno. */
static int follow_link(int fd, char *rest, size_t name)
{
	char target[PATH_MAX], behind[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof target - 1);

	if (n <= 0)
		return n < 0 ? -errno : -ENOENT;
	target[n] = '\0';
	strcpy(behind, rest + name);
	return (size_t)snprintf(rest, PATH_MAX, "%s%s", target, behind) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* One name further from *dir, which is taken and replaced. 0 or -errno. */
static int step(const struct viewer *v, int *dir, char *rest, bool follow, unsigned *links)
{
	size_t slashes = strspn(rest, "/"), n;
	_cleanup_fd_ int fd = -1;
	char name[NAME_MAX + 1];
	struct stat st;
	int r;

	memmove(rest, rest + slashes, strlen(rest + slashes) + 1);
	n = strcspn(rest, "/");
	if (n > NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, rest, n);
	name[n] = '\0';
	if (!is_permitted(v, *dir, S_IXOTH))
		return -EACCES;
	fd = openat(*dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISLNK(st.st_mode) || (!follow && !rest[n + strspn(rest + n, "/")])) {
		memmove(rest, rest + n, strlen(rest + n) + 1);
		fd_close(*dir);
		*dir = fd_steal(&fd);
		return 0;
	}
	r = ++*links > LINKS_MAX ? -ELOOP : follow_link(fd, rest, n);
	if (r == 0 && *rest == '/') {
		fd_close(*dir);
		*dir = open("/", O_PATH | O_CLOEXEC);
		r = *dir < 0 ? -errno : 0;
	}
	return r;
}

/* What procfs has of the daemon is open to it whatever identity it takes on. */
static bool is_in_procfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 || fs.f_type == PROC_SUPER_MAGIC;
}

/*
 * With the viewer's identity taken on. Not by the links of procfs that lead to what a process has open, past all directories on the way,
 * nor to what else it has. Old kernels cannot be told so: -ENOSYS.
 */
static int open_with_identity(const char *path, bool follow)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW), .resolve = RESOLVE_NO_MAGICLINKS };
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);

	if (fd < 0)
		return errno == EPERM ? -ENOSYS : -errno;
	if (!is_in_procfs(fd))
		return fd;
	fd_close(fd);
	return -EACCES;
}

int viewer_open(const struct viewer *v, const char *path, bool read, bool follow)
{
	_cleanup_fd_ int at = -1;
	char rest[PATH_MAX];
	unsigned links = 0;
	int r = 0;

	if (!v) {
		at = open(path, O_PATH | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
		return at < 0 ? -errno : fd_steal(&at);
	}
	if (geteuid() == 0 && (r = open_with_identity(path, follow)) != -ENOSYS)
		return r;
	r = 0;
	if (strlen(path) >= sizeof rest)
		return -ENAMETOOLONG;
	strcpy(rest, path);
	at = open("/", O_PATH | O_CLOEXEC);
	if (at < 0)
		return -errno;
	while (r == 0 && rest[strspn(rest, "/")])
		r = step(v, &at, rest, follow, &links);
	if (r == 0 && !is_permitted(v, at, read ? S_IROTH : 0))
		r = -EACCES;
	return r < 0 ? r : fd_steal(&at);
}

bool viewer_may_see(const struct viewer *v, const char *path, bool read)
{
	int fd;

	if (!v)
		return true;
	fd = viewer_open(v, path, read, true);
	fd_close(fd);
	return fd >= 0 || fd == -ENOENT;
}

int viewer_stat(const struct viewer *v, const char *path, bool follow, struct stat *st)
{
	_cleanup_fd_ int fd = -1;

	if (!v)
		return (follow ? stat(path, st) : lstat(path, st)) < 0 ? -errno : 0;
	fd = viewer_open(v, path, false, follow);
	return fd < 0 ? fd : fstat(fd, st) < 0 ? -errno : 0;
}

DIR *viewer_opendir(const struct viewer *v, const char *path)
{
	_cleanup_fd_ int fd = -1, dir = -1;
	char name[FD_PATH_SIZE];
	DIR *d;

	if (!v)
		return opendir(path);
	fd = viewer_open(v, path, true, true);
	if (fd < 0)
		errno = -fd;
	else
		dir = open(fd_path(fd, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	d = dir >= 0 ? fdopendir(dir) : NULL;
	if (d)
		(void)fd_steal(&dir);
	return d;
}
