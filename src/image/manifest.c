/* SPDX-License-Identifier: MIT */
#include "image/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "image/digest.h"

#define PAGE 4096

/* So much is asked for at once. */
#define STEP ((uint64_t)256 << 10)

struct copy {
	enum manifest_modes modes;
	bool consume; /* the original goes while it is copied */
	uint64_t original, granted;
	int (*grant)(void *arg, uint64_t total);
	void *arg;
	uint64_t bytes;
	struct text *manifest;
	char **where;
};

static void put_name(struct text *t, const char *name)
{
	for (const char *p = name; *p; p++) {
		if (*p == '\\' || (unsigned char)*p <= ' ' || *p == 0x7f)
			text_printf(t, "\\%03o", (unsigned char)*p);
		else
			text_add(t, p, 1);
	}
}

static int fail(struct copy *c, const char *path, int err)
{
	if (!*c->where)
		*c->where = xstrdup(path);
	return err;
}

/* So much of the original has gone. */
static void forget(struct copy *c, uint64_t bytes)
{
	c->original -= bytes < c->original ? bytes : c->original;
}

static uint64_t pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

static int budget(struct copy *c, uint64_t more)
{
	uint64_t total, steps;
	int r;

	c->bytes += more;
	total = c->original + c->bytes;
	if (total <= c->granted || !c->grant)
		return 0;
	/* Many small ones are one question; what is too much by that only may still fit. */
	steps = (total + STEP - 1) / STEP * STEP;
	r = c->grant(c->arg, steps);
	if (r < 0) {
		steps = total;
		r = c->grant(c->arg, steps);
	}
	if (r == 0)
		c->granted = steps;
	return r;
}

static mode_t mode_of(const struct copy *c, const struct stat *st)
{
	if (c->modes == MANIFEST_AS_IS)
		return st->st_mode & 07777;
	return S_ISDIR(st->st_mode) ? 0555 : 0444 | (st->st_mode & 0111);
}

/* The last that happens to a copy. */
static int finish(const struct copy *c, int fd, const struct stat *st)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

	return futimens(fd, times) < 0 || fchmod(fd, mode_of(c, st)) < 0 ? -errno : 0;
}

#define BUFFER ((size_t)256 << 10)

/* One piece of a file that has bytes, up to `end`. */
static int copy_piece(struct copy *c, int in, int out, off_t end, char *buf, struct digest_stream *stream)
{
	int r = 0;

	for (off_t at = lseek(in, 0, SEEK_CUR); r == 0 && at < end;) {
		size_t left = (uint64_t)(end - at) < BUFFER ? (size_t)(end - at) : BUFFER;
		ssize_t n = read(in, buf, left);

		if (n <= 0)
			return n < 0 ? -errno : -ESTALE; /* it is shorter now */
		digest_add(stream, buf, (size_t)n);
		r = budget(c, pages((uint64_t)n));
		if (r == 0)
			r = fd_write_all(out, buf, (size_t)n);
		if (c->consume && fallocate(in, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, n) == 0)
			forget(c, (uint64_t)n / PAGE * PAGE);
		at += n;
	}
	return r;
}

/* A hole reads as zeros, and stays one. */
static void digest_hole(struct digest_stream *stream, uint64_t size)
{
	static const char zeros[65536];

	for (uint64_t n; size > 0; size -= n) {
		n = size < sizeof zeros ? size : sizeof zeros;
		digest_add(stream, zeros, (size_t)n);
	}
}

/* The pieces of a file and the holes between; where holes cannot be asked for it is one piece. */
static int copy_pieces(struct copy *c, int in, int out, off_t size, char *buf, struct digest_stream *stream)
{
	int r = 0;

	for (off_t at = 0, data, hole; r == 0 && at < size; at = hole) {
		data = lseek(in, at, SEEK_DATA);
		if (data < 0)
			data = errno == ENXIO ? size : at;
		digest_hole(stream, (uint64_t)((data < size ? data : size) - at));
		if (data >= size)
			break;
		hole = lseek(in, data, SEEK_HOLE);
		if (hole < 0 || hole > size)
			hole = size;
		if (lseek(in, data, SEEK_SET) < 0 || lseek(out, data, SEEK_SET) < 0)
			return -errno;
		r = copy_piece(c, in, out, hole, buf, stream);
	}
	if (r == 0 && ftruncate(out, size) < 0)
		r = -errno;
	return r;
}

/* The bytes of one file, digested on the way while they are in the cache. */
static int copy_bytes(struct copy *c, int in, int out, off_t size, struct digest *digest)
{
	struct digest_stream *stream = digest_begin();
	_cleanup_free_ char *buf = malloc(BUFFER);
	int r = stream && buf ? 0 : -ENOMEM;

	if (r == 0)
		r = copy_pieces(c, in, out, size, buf, stream);
	if (r < 0) {
		if (stream)
			digest_drop(stream);
		return r;
	}
	*digest = digest_end(stream);
	return 0;
}

static int copy_file(struct copy *c, int from, int to, const char *name, const struct stat *st, const char *path)
{
	/* To give its pages back while they are copied. */
	bool writable = c->consume && fchmodat(from, name, 0600, 0) == 0;
	_cleanup_fd_ int in = openat(from, name, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int out = in < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char hex[DIGEST_HEX_SIZE];
	struct digest digest;
	int r;

	if (in < 0 || out < 0)
		return fail(c, path, -errno);
	r = budget(c, MANIFEST_ENTRY);
	if (r == 0)
		r = copy_bytes(c, in, out, st->st_size, &digest);
	if (r == 0)
		r = finish(c, out, st);
	if (r < 0)
		return fail(c, path, r);
	text_printf(c->manifest, "f %o %" PRIu64 " %" PRId64 ".%09ld %s ", mode_of(c, st), (uint64_t)st->st_size,
		    (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, digest_format(digest, hex));
	put_name(c->manifest, path);
	text_puts(c->manifest, "\n");
	return 0;
}

static int copy_link(struct copy *c, int from, int to, const char *name, const char *path)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);

	if (n < 0)
		return fail(c, path, -errno);
	target[n] = '\0';
	if (budget(c, MANIFEST_ENTRY) < 0)
		return fail(c, path, -EDQUOT);
	if (symlinkat(target, to, name) < 0)
		return fail(c, path, -errno);
	text_puts(c->manifest, "l 777 0 0 - ");
	put_name(c->manifest, path);
	text_puts(c->manifest, " -> ");
	put_name(c->manifest, target);
	text_puts(c->manifest, "\n");
	return 0;
}

static int copy_directory(struct copy *c, int from, int to, const char *path);

static int copy_subdirectory(struct copy *c, int from, int to, const char *name, const struct stat *st, const char *path)
{
	_cleanup_fd_ int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), out = -1;
	int r;

	if (in < 0)
		return fail(c, path, -errno);
	r = budget(c, MANIFEST_ENTRY);
	if (r < 0)
		return fail(c, path, r);
	if (mkdirat(to, name, 0700) < 0)
		return fail(c, path, -errno);
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (out < 0)
		return fail(c, path, -errno);
	text_printf(c->manifest, "d %o 0 0 - ", mode_of(c, st));
	put_name(c->manifest, path);
	text_puts(c->manifest, "\n");
	r = copy_directory(c, in, out, path);
	if (r == 0 && (r = finish(c, out, st)) < 0)
		fail(c, path, r);
	return r;
}

static int copy_entry(struct copy *c, int from, int to, const char *name, const char *path)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(c, path, -errno);
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return copy_file(c, from, to, name, &st, path);
	case S_IFLNK:
		return copy_link(c, from, to, name, path);
	case S_IFDIR:
		return copy_subdirectory(c, from, to, name, &st, path);
	default:
		return fail(c, path, -ENOTSUP);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_names(int dirfd, char ***out, size_t *out_n)
{
	int fd = dup(dirfd);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	char **names = NULL;
	size_t n = 0;

	if (!dir) {
		int r = -errno;

		fd_close(fd);
		return r;
	}
	while ((e = readdir(dir))) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		names = xrealloc(names, (n + 2) * sizeof *names);
		names[n++] = xstrdup(e->d_name);
		names[n] = NULL;
	}
	closedir(dir);
	if (n)
		qsort(names, n, sizeof *names, by_name);
	*out = names;
	*out_n = n;
	return 0;
}

/* What was copied is not needed any more, nor counted. */
static int consume(struct copy *c, int from, const char *name, const char *path)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(from, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		return fail(c, path, -errno);
	forget(c, S_ISREG(st.st_mode) ? MANIFEST_ENTRY + (uint64_t)st.st_blocks * 512 : MANIFEST_ENTRY);
	return 0;
}

/* What a tree takes; one that cannot be looked through is refused when it is copied. */
static uint64_t measure(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint64_t bytes = 0;

	while (dir && (e = readdir(dir))) {
		struct stat st;
		int child;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes += S_ISREG(st.st_mode) ? MANIFEST_ENTRY + (uint64_t)st.st_blocks * 512 : MANIFEST_ENTRY;
		child = S_ISDIR(st.st_mode) ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (child >= 0)
			bytes += measure(child);
		fd_close(child);
	}
	if (dir)
		closedir(dir);
	else
		fd_close(fd);
	return bytes;
}

static int copy_directory(struct copy *c, int from, int to, const char *path)
{
	char **names = NULL;
	size_t n = 0;
	int r = list_names(from, &names, &n);

	if (r < 0)
		return fail(c, path, r);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_free_ char *child = xasprintf("%s%s%s", path, *path ? "/" : "", names[i]);

		r = copy_entry(c, from, to, names[i], child);
		if (r == 0 && c->consume)
			r = consume(c, from, names[i], child);
	}
	list_free(names);
	return r;
}

int manifest_copy_tree(const char *from, const char *to, enum manifest_modes modes, int (*grant)(void *arg, uint64_t total),
		       void *arg, struct text *manifest, uint64_t *bytes, char **where)
{
	struct copy c = { .modes = modes & ~MANIFEST_CONSUME, .consume = modes & MANIFEST_CONSUME, .grant = grant, .arg = arg, .manifest = manifest, .where = where };
	_cleanup_fd_ int in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int out = in < 0 ? -1 : open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	*where = NULL;
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return fail(&c, in < 0 ? from : to, -errno);
	if (c.consume) {
		c.original = measure(in);
		r = budget(&c, 0);
		if (r < 0)
			return fail(&c, from, r);
	}
	r = copy_directory(&c, in, out, "");
	if (r == 0 && (r = finish(&c, out, &st)) < 0)
		fail(&c, to, r);
	*bytes = c.bytes;
	return r;
}
