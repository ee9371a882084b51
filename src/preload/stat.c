/* SPDX-License-Identifier: MIT */
/* Looking at files. */
#include "preload/shim.h"

#include <string.h>
#include <sys/ipc.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/path.h"

static const struct run_entry *stat_entry_of_image(dev_t device, ino_t inode)
{
	const struct run_entry *e;

	if (!run || device != run->device)
		return NULL;
	e = run_entries();
	for (uint32_t i = 0; i < run->n_entries; i++) {
		if (e[i].kind == RUN_FILE && e[i].inode == inode)
			return &e[i];
	}
	return NULL;
}

bool stat_correct(struct stat *st)
{
	const struct run_entry *e = stat_entry_of_image(st->st_dev, st->st_ino);

	if (!e)
		return false;
	st->st_mode = S_IFREG | e->mode;
	st->st_uid = e->uid;
	st->st_gid = e->gid;
	st->st_nlink = 1;
	st->st_mtim = (struct timespec){ .tv_sec = e->mtime, .tv_nsec = e->mtime_ns };
	st->st_ctim = st->st_mtim;
	return true;
}

/* What another user's daemon has on its tmpfs belongs to who runs the command. */
static void correct_owner(const struct resolved *p, uint32_t *uid, uint32_t *gid)
{
	if (p->entry && p->entry->kind == RUN_TREE && *uid == p->entry->owner && p->entry->owner != p->entry->uid) {
		*uid = p->entry->uid;
		*gid = p->entry->gid;
	}
}

/* Its directories may be markers, which the kernel does not count. 1: not known, as overlayfs has it. */
static bool is_own_directory(const struct resolved *p)
{
	return p->entry && p->entry->kind == RUN_TREE && entry_is_private(p->entry) && path_below(p->path, run_string(p->entry->own));
}

int stat_place(struct resolved *p, struct stat *st, bool follow)
{
	if (!p->image) {
		int r = REAL(fstatat)(AT_FDCWD, short_path(p), st, follow ? 0 : AT_SYMLINK_NOFOLLOW);

		if (r == 0 && !follow && S_ISLNK(st->st_mode) && p->entry) {
			pass_marker(p);
			r = REAL(fstatat)(AT_FDCWD, short_path(p), st, AT_SYMLINK_NOFOLLOW);
		}
		if (r == 0) {
			correct_owner(p, &st->st_uid, &st->st_gid);
			st->st_ino = inode_of(st->st_dev, st->st_ino);
		}
		if (r == 0 && S_ISDIR(st->st_mode) && is_own_directory(p))
			st->st_nlink = 1;
		return r;
	}
	/* No need to ask for what never changes. */
	memset(st, 0, sizeof *st);
	st->st_dev = run->device;
	st->st_ino = p->entry->inode;
	st->st_size = (off_t)p->entry->size;
	st->st_blksize = 4096;
	st->st_blocks = (blkcnt_t)p->entry->blocks;
	stat_correct(st);
	st->st_atim = st->st_mtim;
	return 0;
}

static APART int stat_shown(int dirfd, const char *path, struct stat *st, bool follow)
{
	struct resolved p;
	int r = resolve_path(&p, dirfd, path, USE_READ | (follow ? 0 : USE_NOFOLLOW | USE_RAW));

	if (r == 1)
		return stat_place(&p, st, follow);
	return r < 0 ? -1 : REAL(fstatat)(dirfd, path, st, follow ? 0 : AT_SYMLINK_NOFOLLOW);
}

/* Files that were copied up can also be come to by a way that is no fixture's, as a descriptor's in /proc. */
static inline int numbered(int r, struct stat *st)
{
	if (r == 0)
		st->st_ino = inode_of(st->st_dev, st->st_ino);
	return r;
}

SHIM int stat(const char *restrict path, struct stat *restrict st)
{
	return is_inside(AT_FDCWD, path) ? stat_shown(AT_FDCWD, path, st, true) : numbered(REAL(stat)(path, st), st);
}
SHIM_ALIAS(stat64, stat);

SHIM int lstat(const char *restrict path, struct stat *restrict st)
{
	return is_inside(AT_FDCWD, path) ? stat_shown(AT_FDCWD, path, st, false) : numbered(REAL(lstat)(path, st), st);
}
SHIM_ALIAS(lstat64, lstat);

static inline int corrected(int r, struct stat *st)
{
	if (r == 0 && !stat_correct(st))
		st->st_ino = inode_of(st->st_dev, st->st_ino);
	return r;
}

SHIM int fstat(int fd, struct stat *st)
{
	if (fd_is_ours(fd)) {
		errno = EBADF;
		return -1;
	}
	return corrected(REAL(fstat)(fd, st), st);
}
SHIM_ALIAS(fstat64, fstat);
SHIM_ALIAS(__fstat64, fstat);

/* With others it fails, whatever the path is. */
#define FSTATAT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE)

SHIM int fstatat(int dirfd, const char *restrict path, struct stat *restrict st, int flags)
{
	int r;

	if (!(flags & ~FSTATAT_FLAGS) && is_inside(dirfd, path))
		return stat_shown(dirfd, path, st, !(flags & AT_SYMLINK_NOFOLLOW));
	r = REAL(fstatat)(dirfd, path, st, flags);
	return flags & AT_EMPTY_PATH ? corrected(r, st) : numbered(r, st);
}
SHIM_ALIAS(fstatat64, fstatat);

/*
 * What programs that were linked before glibc 2.33 call, and what another preloaded library's stat() may be made of: each leads to
 * the next one of its own name. On 64-bit machines both versions are the same structure.
 */
int __xstat(int version, const char *path, struct stat *st);
int __lxstat(int version, const char *path, struct stat *st);
int __fxstat(int version, int fd, struct stat *st);
int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags);

SHIM int __xstat(int version, const char *path, struct stat *st)
{
	return is_inside(AT_FDCWD, path) ? stat_shown(AT_FDCWD, path, st, true) : numbered(REAL_OLD(__xstat)(version, path, st), st);
}
SHIM_ALIAS(__xstat64, __xstat);

SHIM int __lxstat(int version, const char *path, struct stat *st)
{
	return is_inside(AT_FDCWD, path) ? stat_shown(AT_FDCWD, path, st, false) : numbered(REAL_OLD(__lxstat)(version, path, st), st);
}
SHIM_ALIAS(__lxstat64, __lxstat);

SHIM int __fxstat(int version, int fd, struct stat *st)
{
	return corrected(REAL_OLD(__fxstat)(version, fd, st), st);
}
SHIM_ALIAS(__fxstat64, __fxstat);

SHIM int __fxstatat(int version, int dirfd, const char *path, struct stat *st, int flags)
{
	int r;

	if (!(flags & ~FSTATAT_FLAGS) && is_inside(dirfd, path))
		return stat_shown(dirfd, path, st, !(flags & AT_SYMLINK_NOFOLLOW));
	r = REAL_OLD(__fxstatat)(version, dirfd, path, st, flags);
	return flags & AT_EMPTY_PATH ? corrected(r, st) : numbered(r, st);
}
SHIM_ALIAS(__fxstatat64, __fxstatat);

static void correct_statx(struct statx *x)
{
	struct stat st = { .st_dev = makedev(x->stx_dev_major, x->stx_dev_minor), .st_ino = x->stx_ino };

	if (!stat_correct(&st)) {
		x->stx_ino = inode_of(st.st_dev, x->stx_ino);
		return;
	}
	x->stx_mode = (uint16_t)st.st_mode;
	x->stx_uid = st.st_uid;
	x->stx_gid = st.st_gid;
	x->stx_nlink = 1;
	x->stx_mtime.tv_sec = st.st_mtim.tv_sec;
	x->stx_mtime.tv_nsec = (uint32_t)st.st_mtim.tv_nsec;
	x->stx_ctime = x->stx_mtime;
}

static APART int statx_shown(int dirfd, const char *path, int flags, unsigned mask, struct statx *x)
{
	struct resolved p;
	int r = resolve_path(&p, dirfd, path, USE_READ | (flags & AT_SYMLINK_NOFOLLOW ? USE_NOFOLLOW : 0));
	struct stat st;

	if (r < 0)
		return -1;
	if (r == 0)
		return REAL(statx)(dirfd, path, flags, mask, x);
	if (!p.image) {
		r = REAL(statx)(AT_FDCWD, short_path(&p), flags & ~AT_EMPTY_PATH, mask, x);
		if (r == 0) {
			correct_owner(&p, &x->stx_uid, &x->stx_gid);
			x->stx_ino = inode_of(makedev(x->stx_dev_major, x->stx_dev_minor), x->stx_ino);
		}
		if (r == 0 && S_ISDIR(x->stx_mode) && is_own_directory(&p))
			x->stx_nlink = 1;
		return r;
	}
	stat_place(&p, &st, true);
	*x = (struct statx){
		.stx_mask = STATX_BASIC_STATS,
		.stx_blksize = (uint32_t)st.st_blksize,
		.stx_nlink = 1,
		.stx_ino = st.st_ino,
		.stx_size = (uint64_t)st.st_size,
		.stx_blocks = (uint64_t)st.st_blocks,
		.stx_dev_major = major(st.st_dev),
		.stx_dev_minor = minor(st.st_dev),
	};
	correct_statx(x);
	x->stx_atime = x->stx_mtime;
	return 0;
}

SHIM int statx(int dirfd, const char *restrict path, int flags, unsigned mask, struct statx *restrict x)
{
	int r;

	if (is_inside(dirfd, path))
		return statx_shown(dirfd, path, flags, mask, x);
	r = REAL(statx)(dirfd, path, flags, mask, x);
	if (r == 0 && run && (flags & AT_EMPTY_PATH))
		correct_statx(x);
	else if (r == 0)
		x->stx_ino = inode_of(makedev(x->stx_dev_major, x->stx_dev_minor), x->stx_ino);
	return r;
}

static APART int access_shown(int dirfd, const char *path, int mode, int flags)
{
	bool follow = !(flags & AT_SYMLINK_NOFOLLOW);
	struct resolved p;
	struct stat st;
	int r = resolve_path(&p, dirfd, path, USE_READ | (follow ? 0 : USE_NOFOLLOW));

	if (r <= 0)
		return r < 0 ? -1 : REAL(faccessat)(dirfd, path, mode, flags);
	/* The permissions of the copy would say the same, once there is one. */
	if (p.image || (p.entry && p.entry->kind == RUN_TREE && p.entry->owner != p.entry->uid))
		return stat_place(&p, &st, follow) < 0 ? -1 : rights_allow(&st, mode, flags & AT_EACCESS);
	if ((mode & X_OK) && resolve_is_noexec(&p) && REAL(faccessat)(AT_FDCWD, short_path(&p), mode & ~X_OK, flags & ~AT_EMPTY_PATH) == 0)
		return stat_place(&p, &st, follow) < 0 ? -1 : rights_allow(&st, X_OK, flags & AT_EACCESS);
	return REAL(faccessat)(AT_FDCWD, short_path(&p), mode, flags & ~AT_EMPTY_PATH);
}

SHIM int access(const char *path, int mode)
{
	return is_inside(AT_FDCWD, path) ? access_shown(AT_FDCWD, path, mode, 0) : REAL(access)(path, mode);
}

SHIM int faccessat(int dirfd, const char *path, int mode, int flags)
{
	return is_inside(dirfd, path) ? access_shown(dirfd, path, mode, flags) : REAL(faccessat)(dirfd, path, mode, flags);
}

SHIM int eaccess(const char *path, int mode)
{
	return is_inside(AT_FDCWD, path) ? access_shown(AT_FDCWD, path, mode, AT_EACCESS) : REAL(eaccess)(path, mode);
}
SHIM_ALIAS(euidaccess, eaccess);

/* Calls that want a path of something that is there: an image has one for its descriptor. */
static const char *path_to_ask(struct resolved *p, int dirfd, const char *path, unsigned use)
{
	int r = resolve_path(p, dirfd, path, use);

	if (r < 0)
		return NULL;
	if (r == 0)
		return path;
	return p->image ? run_string(run->lock) : p->path;
}

#define ASK(path, use, call)                                                    \
	do {                                                                    \
		struct resolved place_;                                         \
		const char *asked_ = path_to_ask(&place_, AT_FDCWD, path, use); \
		return asked_ ? call : -1;                                      \
	} while (0)

SHIM int statfs(const char *path, struct statfs *s)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(statfs)(path, s);
	ASK(path, USE_READ, REAL(statfs)(asked_, s));
}
SHIM_ALIAS(statfs64, statfs);
SHIM_ALIAS(__statfs, statfs);

SHIM int statvfs(const char *restrict path, struct statvfs *restrict s)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(statvfs)(path, s);
	ASK(path, USE_READ, REAL(statvfs)(asked_, s));
}
SHIM_ALIAS(statvfs64, statvfs);

SHIM long pathconf(const char *path, int name)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(pathconf)(path, name);
	ASK(path, USE_READ, REAL(pathconf)(asked_, name));
}

SHIM ssize_t getxattr(const char *path, const char *name, void *value, size_t size)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(getxattr)(path, name, value, size);
	ASK(path, USE_READ, REAL(getxattr)(asked_, name, value, size));
}

SHIM ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(lgetxattr)(path, name, value, size);
	ASK(path, USE_READ | USE_NOFOLLOW, REAL(lgetxattr)(asked_, name, value, size));
}

SHIM ssize_t listxattr(const char *path, char *list, size_t size)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(listxattr)(path, list, size);
	ASK(path, USE_READ, REAL(listxattr)(asked_, list, size));
}

SHIM ssize_t llistxattr(const char *path, char *list, size_t size)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(llistxattr)(path, list, size);
	ASK(path, USE_READ | USE_NOFOLLOW, REAL(llistxattr)(asked_, list, size));
}

SHIM int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(setxattr)(path, name, value, size, flags);
	ASK(path, USE_CHANGE, REAL(setxattr)(asked_, name, value, size, flags));
}

SHIM int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(lsetxattr)(path, name, value, size, flags);
	ASK(path, USE_CHANGE | USE_NOFOLLOW, REAL(lsetxattr)(asked_, name, value, size, flags));
}

SHIM int removexattr(const char *path, const char *name)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(removexattr)(path, name);
	ASK(path, USE_CHANGE, REAL(removexattr)(asked_, name));
}

SHIM int lremovexattr(const char *path, const char *name)
{
	if (likely(!is_inside(AT_FDCWD, path)))
		return REAL(lremovexattr)(path, name);
	ASK(path, USE_CHANGE | USE_NOFOLLOW, REAL(lremovexattr)(asked_, name));
}

/* By the numbers of the file, as libc's. */
SHIM key_t ftok(const char *path, int id)
{
	struct stat st;

	if (SEEN(stat)(path, &st) < 0)
		return -1;
	return (key_t)((st.st_ino & 0xffff) | (st.st_dev & 0xff) << 16 | ((unsigned)id & 0xff) << 24);
}
