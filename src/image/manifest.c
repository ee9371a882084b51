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

struct copy {
	enum manifest_modes modes;
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

/* A tmpfs uses whole pages. */
static int budget(struct copy *c, uint64_t more)
{
	c->bytes += (more + PAGE - 1) / PAGE * PAGE;
	return c->grant ? c->grant(c->arg, c->bytes) : 0;
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

/* The bytes of one file, digested on the way while they are in the cache. */
static int copy_bytes(struct copy *c, int in, int out, struct digest *digest)
{
	struct digest_stream *stream = digest_begin();
	_cleanup_free_ char *buf = malloc(256 << 10);
	ssize_t n = 0;
	int r = stream && buf ? 0 : -ENOMEM;

	while (r == 0 && (n = read(in, buf, 256 << 10)) > 0) {
		digest_add(stream, buf, (size_t)n);
		r = budget(c, (uint64_t)n);
		if (r == 0)
			r = fd_write_all(out, buf, (size_t)n);
	}
	if (n < 0)
		r = -errno;
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
	_cleanup_fd_ int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int out = in < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char hex[DIGEST_HEX_SIZE];
	struct digest digest;
	int r;

	if (in < 0 || out < 0)
		return fail(c, path, -errno);
	r = copy_bytes(c, in, out, &digest);
	if (r == 0)
		r = finish(c, out, st);
	if (r < 0)
		return fail(c, path, r);
	text_printf(c->manifest, "f %o %" PRIu64 " %" PRId64 ".%09ld %s ", mode_of(c, st), (uint64_t)lseek(out, 0, SEEK_CUR),
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
	r = budget(c, 1);
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
	}
	list_free(names);
	return r;
}

int manifest_copy_tree(const char *from, const char *to, enum manifest_modes modes, int (*grant)(void *arg, uint64_t total),
		       void *arg, struct text *manifest, uint64_t *bytes, char **where)
{
	struct copy c = { .modes = modes, .grant = grant, .arg = arg, .manifest = manifest, .where = where };
	_cleanup_fd_ int in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int out = in < 0 ? -1 : open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int r;

	*where = NULL;
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return fail(&c, in < 0 ? from : to, -errno);
	r = copy_directory(&c, in, out, "");
	if (r == 0 && (r = finish(&c, out, &st)) < 0)
		fail(&c, to, r);
	*bytes = c.bytes;
	return r;
}
