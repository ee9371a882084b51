/* SPDX-License-Identifier: MIT */
/* The scratch directory of a run: where its changes go, and what is removed with it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/tree.h"
#include "fixctl/run.h"

#define PREFIX "fixd-run-"
#define UNIQUE "XXXXXX"
#define NOTES_MAX (16u << 20)
/* A directory without a lock is being made, or was by somebody who was killed just then. */
#define UNLOCKED_S 60

static int lock_file(int fd, int command, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };
	int r;

	do {
		r = fcntl(fd, command, &l);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int open_lock(const char *path, int flags)
{
	_cleanup_free_ char *lock = xasprintf("%s/lock", path);
	int fd = open(lock, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);

	return fd < 0 ? -errno : fd;
}

/*
 * A directory that a run has made is marked, and whoever shows something in it has it locked: so that the last one removes it,
 * and nobody before, in whatever scratch directory they work. Each notes down what it has made, for one that was killed before it
 * could mark it and for file systems without marks; and what it uses, which another may just have made and not yet marked.
 */
#define MADE "made "
#define USED "used "
#define MARK "user.fixd.made"

static bool is_marked(const char *path)
{
	char value[8];

	return getxattr(path, MARK, value, sizeof value) > 0;
}

static bool is_empty(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!dir) {
		fd_close(fd);
		return false;
	}
	while ((e = readdir(dir)) && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")))
		;
	closedir(dir);
	return !e;
}

/*
 * Unless another run, which has it locked, needs it, too; or somebody else has put something there. A run that empties it while
 * we have the lock is refused the lock, and leaves it to us: so we look again after we have given it up.
 */
static bool remove_directory(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
		/* One that is gone may have a successor of the same name. */
		if (fstat(fd, &st) < 0 || st.st_nlink == 0)
			return false;
		if (rmdir(path) == 0)
			return true;
		if (errno != ENOTEMPTY)
			return false;
		flock(fd, LOCK_UN);
		if (!is_empty(fd))
			return false;
	}
	return false;
}

/* And what was made for it to be in. `path` is cut short. */
static void remove_upwards(char *path, bool made)
{
	while (*path && (made || is_marked(path)) && remove_directory(path)) {
		*strrchr(path, '/') = '\0';
		made = false;
	}
}

/* The last first. */
static void remove_directories(const char *path)
{
	_cleanup_free_ char *list = xasprintf("%s/directories", path), *notes = NULL;
	size_t n;

	if (file_read_all(list, NOTES_MAX, &notes, &n) < 0)
		return;
	while (n > 0 && notes[n - 1] == '\n') {
		char *last;

		notes[--n] = '\0';
		last = strrchr(notes, '\n');
		last = last ? last + 1 : notes;
		n = (size_t)(last - notes);
		if (strlen(last) > strlen(MADE))
			remove_upwards(last + strlen(MADE), !strncmp(last, MADE, strlen(MADE)));
	}
}

void scratch_free(struct scratch *s)
{
	free(s->path);
	free(s->inner);
	free(s->copies);
	s->path = s->inner = s->copies = NULL;
}

char *scratch_marker(const struct scratch *s, size_t i)
{
	return xasprintf("%.8s-%zu", strrchr(s->inner, '/') + 1, i);
}

int scratch_remove(const char *path)
{
	remove_directories(path);
	copies_remove(path);
	return tree_remove(path);
}

/* Its run is over, and nobody has removed it. */
static void sweep_one(const char *path)
{
	_cleanup_fd_ int fd = open_lock(path, 0);
	struct stat st;

	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return;
	/* The lock is kept until it is removed: nobody can begin to use it. */
	if (fd >= 0 && lock_file(fd, F_OFD_SETLK, F_WRLCK) == 0)
		scratch_remove(path);
	/* Killed while making it. Anything else in it, and it is none of ours. */
	if (fd == -ENOENT && st.st_mtime < time(NULL) - UNLOCKED_S)
		rmdir(path);
}

static void sweep(const char *base)
{
	DIR *dir = opendir(base);
	struct dirent *e;

	while (dir && (e = readdir(dir))) {
		_cleanup_free_ char *path = NULL;

		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 || strlen(e->d_name) != strlen(PREFIX UNIQUE))
			continue;
		path = xasprintf("%s/%s", base, e->d_name);
		sweep_one(path);
	}
	if (dir)
		closedir(dir);
}

/* Whoever is told the name can search these, and nobody list them. */
static int make_inner(struct scratch *s)
{
	_cleanup_free_ char *fixtures = NULL;
	uint64_t random[2];

	if (getrandom(random, sizeof random, 0) != sizeof random)
		return -EAGAIN;
	s->inner = xasprintf("%s/%016llx%016llx", s->path, (unsigned long long)random[0], (unsigned long long)random[1]);
	s->copies = xstrdup(s->inner);
	fixtures = xasprintf("%s/fixtures", s->inner);
	return mkdir(s->inner, 0700) < 0 || mkdir(fixtures, 0700) < 0 || chmod(fixtures, 0711) < 0 || chmod(s->inner, 0711) < 0 ||
			       chmod(s->path, 0711) < 0
		       ? -errno
		       : 0;
}

static int try_to_make(const char *base, struct scratch *s)
{
	_cleanup_fd_ int fd = -1, low = -1;
	int r;

	scratch_free(s);
	s->path = xasprintf("%s/" PREFIX UNIQUE, base);
	if (!mkdtemp(s->path)) {
		r = -errno;
		scratch_free(s);
		return r;
	}
	low = open_lock(s->path, O_CREAT | O_EXCL);
	fd = low < 0 ? low : fcntl(low, F_DUPFD_CLOEXEC, shown_first_fd());
	r = fd < 0 ? (low < 0 ? low : -errno) : lock_file(fd, F_OFD_SETLKW, F_RDLCK);
	if (r == 0)
		r = make_inner(s);
	if (r < 0) {
		if (r != -ENOENT)
			tree_remove(s->path);
		return r;
	}
	s->lock = fd_steal(&fd);
	return 0;
}

static int make_in(const char *where, struct scratch *s)
{
	_cleanup_free_ char *base = realpath(where, NULL);
	int r = -ENOENT;

	if (!base)
		return -errno;
	sweep(base);
	/* Another run may sweep it away before it is locked. */
	for (int tries = 0; r == -ENOENT && tries < 100; tries++)
		r = try_to_make(base, s);
	return r;
}

/* What a run makes or changes it may want to start. */
static bool is_noexec(const char *where)
{
	struct statvfs fs;

	return statvfs(where, &fs) == 0 && (fs.f_flag & ST_NOEXEC);
}

int scratch_make(struct scratch *s)
{
	static const char *const places[] = { "/tmp", "/var/tmp" };
	const char *tmp = getenv("TMPDIR"), *wanted = tmp && *tmp ? tmp : places[0];
	bool noexec = is_noexec(wanted);
	int first, r;

	*s = (struct scratch){ .lock = -1 };
	r = first = noexec ? -EACCES : make_in(wanted, s);

	/* As those who want a temporary file do. */
	for (size_t k = 0; r < 0 && k < ELEMENTSOF(places); k++) {
		r = is_noexec(places[k]) ? first : make_in(places[k], s);
		if (r == 0)
			fprintf(stderr, "fixctl: no scratch directory in %s: %s; %s is taken\n", wanted,
				noexec ? "it is mounted noexec" : strerror(-first), places[k]);
	}
	if (r < 0 && noexec)
		r = first = make_in(wanted, s);
	return r < 0 ? first : 0;
}

static int note(const struct scratch *s, const char *what, const char *path)
{
	_cleanup_free_ char *list = xasprintf("%s/directories", s->path), *line = xasprintf("%s%s\n", what, path);
	_cleanup_fd_ int fd = open(list, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd_write_all(fd, line, strlen(line));
}

/* Another run may be about to remove it: then it is gone when we have the lock. */
static int lock_directory(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || flock(fd, LOCK_SH) < 0 || fstat(fd, &st) < 0)
		return -errno;
	return st.st_nlink == 0 ? -ENOENT : fd_steal(&fd);
}

/* The mode that a directory of a run has until it is marked. */
#define UNMARKED 01700

/* It was there before any run, and no run will remove it: then locking it would only be in the way of those who do. */
static bool is_of_others(const char *path)
{
	char value;
	struct stat st;

	return stat(path, &st) == 0 && (st.st_mode & 07777 & ~S_ISGID) != UNMARKED && getxattr(path, MARK, &value, sizeof value) < 0 &&
	       errno == ENODATA;
}

static int make_directory(const struct scratch *s, const char *path)
{
	/* Noted before it is there: killed in between, nothing is left. */
	int r = note(s, MADE, path);
	mode_t mask = umask(0);
	struct stat st;

	umask(mask);

	if (r < 0)
		return r;
	if (mkdir(path, UNMARKED) < 0)
		return errno == EEXIST ? 0 : -errno;
	/* Where marks are not known, the notes must do. */
	if (setxattr(path, MARK, "1", 1, 0) < 0 && errno != ENOTSUP && errno != EPERM)
		return -errno;
	/* The group may come from where it is. */
	if (stat(path, &st) < 0 || chmod(path, (0755 & ~mask) | (st.st_mode & S_ISGID)) < 0)
		return errno == ENOENT ? 0 : -errno;
	return 0;
}

int scratch_make_directory(const struct scratch *s, const char *path, int *lock)
{
	_cleanup_free_ char *parent = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	struct stat st;
	int r = 0;

	if (strchr(path, '\n'))
		return -EINVAL;
	if (lock)
		r = note(s, USED, path);
	if (r < 0)
		return r;
	for (int tries = 0; tries < 100; tries++) {
		if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
			return -ENOTDIR;
		if (access(path, F_OK) < 0 || is_marked(path)) {
			r = *parent ? scratch_make_directory(s, parent, NULL) : 0;
			if (r == 0)
				r = make_directory(s, path);
			if (r < 0 && r != -ENOENT)
				return r;
		}
		if (!lock && r == 0)
			return 0;
		if (lock && is_of_others(path)) {
			*lock = -1;
			return 0;
		}
		r = lock ? lock_directory(path) : r;
		/* One that may not be read is nobody's to remove. */
		if (r == -EACCES && access(path, F_OK) == 0) {
			*lock = -1;
			return 0;
		}
		if (r >= 0) {
			*lock = r;
			return 0;
		}
		if (r != -ENOENT)
			return r;
	}
	return -EAGAIN;
}

int scratch_wait(const char *path, bool others_may_stay, int *lock)
{
	if (*lock < 0)
		*lock = open_lock(path, 0);
	if (*lock < 0)
		return *lock;
	return lock_file(*lock, others_may_stay ? F_OFD_SETLK : F_OFD_SETLKW, F_WRLCK);
}

int scratch_watch(const char *path)
{
	_cleanup_fd_ int fd = open_lock(path, 0);
	int r = fd < 0 ? fd : lock_file(fd, F_OFD_SETLK, F_RDLCK);

	return r < 0 ? r : fd_steal(&fd);
}
