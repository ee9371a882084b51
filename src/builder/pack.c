/* SPDX-License-Identifier: MIT */
#include "builder/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/tree.h"
#include "builder/work.h"
#include "image/memfd.h"

#define MANIFEST_MAX ((size_t)256 << 20)
#define CHUNK ((size_t)256 << 10)
#define HEADER_MAX 32

/* A line of the manifest (image/manifest.h). */
struct entry {
	char kind;
	unsigned mode;
	uint64_t size;
	int64_t mtime, nsec;
	char *path, *target; /* in the line, without its escapes */
};

/* In place: \ooo becomes the byte. False: it is none. */
static bool unescape(char *s)
{
	char *out = s;

	while (*s) {
		if (*s != '\\') {
			*out++ = *s++;
			continue;
		}
		if (s[1] < '0' || s[1] > '3' || s[2] < '0' || s[2] > '7' || s[3] < '0' || s[3] > '7')
			return false;
		*out = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
		if (!*out++)
			return false;
		s += 4;
	}
	*out = '\0';
	return true;
}

/* Relative, and of names only: no ".", no "..", nothing empty. */
static bool is_plain(const char *path)
{
	for (const char *p = path;; p++) {
		size_t n = strcspn(p, "/");

		if (n == 0 || n > 255 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
			return false;
		p += n;
		if (!*p)
			return true;
	}
}

static bool take_line(char *line, struct entry *e)
{
	int n = -1;
	char *arrow;

	*e = (struct entry){ 0 };
	if (sscanf(line, "%c %o %" SCNu64 " %" SCNd64 "%n", &e->kind, &e->mode, &e->size, &e->mtime, &n) != 4 || n < 0)
		return false;
	line += n;
	if (e->kind == 'f' && (sscanf(line, ".%" SCNd64 " %*s %n", &e->nsec, &n) != 1 || n <= 0))
		return false;
	if (e->kind != 'f' && (n = 3, strncmp(line, " - ", 3) != 0))
		return false;
	e->path = line + n;
	arrow = e->kind == 'l' || e->kind == 'h' ? strstr(e->path, " -> ") : NULL;
	if (arrow) {
		*arrow = '\0';
		e->target = arrow + 4;
	}
	return strchr("fdlh", e->kind) && (arrow || e->kind == 'f' || e->kind == 'd') && e->mode <= 07777 && e->nsec >= 0 &&
	       e->nsec < 1000000000 && unescape(e->path) && is_plain(e->path) && (!arrow || (unescape(e->target) && *e->target)) &&
	       (e->kind != 'h' || is_plain(e->target));
}

/* Each line, which it may change; stops at the first that is not 0, and returns that. -EBADMSG: a line is none. */
static int each_entry(char *manifest, int (*fn)(void *arg, const struct entry *e), void *arg)
{
	char *rest;
	int r = 0;

	for (char *line = strtok_r(manifest, "\n", &rest); line && r == 0; line = strtok_r(NULL, "\n", &rest)) {
		struct entry e;

		r = take_line(line, &e) ? fn(arg, &e) : -EBADMSG;
	}
	return r;
}

struct packing {
	int tree, out;
};

static int pack_entry(void *arg, const struct entry *e)
{
	const struct packing *p = arg;
	_cleanup_fd_ int fd = e->kind == 'f' ? openat(p->tree, e->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	uint64_t left = e->size;

	if (e->kind != 'f')
		return 0;
	while (fd >= 0 && left > 0) {
		ssize_t n = sendfile(p->out, fd, NULL, left < CHUNK ? (size_t)left : CHUNK);

		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		left -= (uint64_t)n;
	}
	return fd < 0 ? -errno : 0;
}

int pack_tree(const struct work *w)
{
	_cleanup_fd_ int out = memfd_new("fixd:pack"), tree = open(w->job.tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct packing p = { tree, out };
	_cleanup_free_ char *manifest = xcalloc(1, w->space.used + 1);
	char header[HEADER_MAX];
	struct stat st;
	int n, r = out < 0 ? out : tree < 0 || fstat(tree, &st) < 0 ? -errno : 0;

	n = r == 0 ? snprintf(header, sizeof header, "%zu %o\n", w->space.used, (unsigned)st.st_mode & 07777) : 0;

	if (r == 0 && fd_pread_all(w->image, manifest, w->space.used, 0) != (ssize_t)w->space.used)
		r = -EIO;
	if (r == 0)
		r = fd_write_all(out, header, (size_t)n);
	if (r == 0)
		r = fd_write_all(out, manifest, w->space.used);
	if (r == 0)
		r = each_entry(manifest, pack_entry, &p);
	if (r == 0)
		return fd_steal(&out);
	fprintf(stderr, "fixd-builder: the tree of '%s' does not go to the remote: %s\n", w->job.name,
		r == -EBADMSG ? PACK_REFUSED : strerror(-r));
	return r;
}

struct taking {
	int from, tree;
	uint64_t left; /* of the stream */
	char *buf;
};

static int take_content(struct taking *t, const struct entry *e)
{
	_cleanup_fd_ int fd = openat(t->tree, e->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = e->mtime, .tv_nsec = e->nsec } };
	uint64_t left = e->size;

	if (fd < 0)
		return -errno;
	if (left > t->left)
		return -EBADMSG;
	t->left -= left;
	while (left > 0) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;
		int r = fd_read_all(t->from, t->buf, n);

		if (r == 0)
			r = fd_write_all(fd, t->buf, n);
		if (r < 0)
			return r;
		left -= n;
	}
	return fchmod(fd, e->mode) < 0 || futimens(fd, times) < 0 ? -errno : 0;
}

/* A path of the manifest leads through directories that were made here, in this order: a link in it is no directory. */
static bool goes_through_link(int tree, const char *path)
{
	_cleanup_free_ char *copy = xstrdup(path);

	for (char *slash = strchr(copy, '/'); slash; slash = strchr(slash + 1, '/')) {
		struct stat st;

		*slash = '\0';
		if (fstatat(tree, copy, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode))
			return true;
		*slash = '/';
	}
	return false;
}

static int take_entry(void *arg, const struct entry *e)
{
	struct taking *t = arg;

	if (goes_through_link(t->tree, e->path) || (e->kind == 'h' && goes_through_link(t->tree, e->target)))
		return -EBADMSG;
	switch (e->kind) {
	case 'f':
		return take_content(t, e);
	case 'd':
		/* Its own mode comes last: until then it is written to. */
		return mkdirat(t->tree, e->path, 0700) < 0 ? -errno : 0;
	case 'l':
		return symlinkat(e->target, t->tree, e->path) < 0 ? -errno : 0;
	default:
		return linkat(t->tree, e->target, t->tree, e->path, 0) < 0 ? -errno : 0;
	}
}

static int set_mode(void *arg, const struct entry *e)
{
	const struct taking *t = arg;

	return e->kind == 'd' && fchmodat(t->tree, e->path, e->mode, 0) < 0 ? -errno : 0;
}

/* Of directories, which have no link on their way. Those that nobody may enter come after what is in them: they are in reverse. */
static int set_modes(struct taking *t, const char *manifest)
{
	_cleanup_free_ char *copy = xstrdup(manifest);
	size_t n = strlen(copy);
	int r = 0;

	while (n > 0 && r == 0) {
		struct entry e;
		char *line;

		if (copy[n - 1] == '\n')
			copy[--n] = '\0';
		line = memrchr(copy, '\n', n);
		line = line ? line + 1 : copy;
		n = (size_t)(line - copy);
		r = take_line(line, &e) ? set_mode(t, &e) : -EBADMSG;
	}
	return r;
}

/* "BYTES MODE\n": of the manifest, of the tree itself. */
static int take_header(struct taking *t, uint64_t *size, unsigned *mode)
{
	char text[HEADER_MAX];
	size_t n = 0;

	do {
		if (n == sizeof text - 1 || t->left == 0 || fd_read_all(t->from, text + n, 1) < 0)
			return -EBADMSG;
		t->left--;
	} while (text[n++] != '\n');
	text[n - 1] = '\0';
	if (sscanf(text, "%" SCNu64 " %o", size, mode) != 2 || *mode > 07777)
		return -EBADMSG;
	return *size <= t->left && *size <= MANIFEST_MAX ? 0 : -EBADMSG;
}

/* Budgeted before the first byte is written. */
static int take_all(struct work *w, struct taking *t, uint64_t size, char **manifest, size_t *n)
{
	uint64_t bytes;
	unsigned mode;
	int r = take_header(t, &bytes, &mode);

	if (r == 0 && work_grant(w, size) < 0)
		r = -EDQUOT;
	if (r < 0)
		return r;
	*n = (size_t)bytes;
	*manifest = xcalloc(1, *n + 1);
	r = fd_read_all(t->from, *manifest, *n);
	t->left -= bytes;
	if (r == 0 && memchr(*manifest, 0, *n))
		r = -EBADMSG;
	if (r == 0) {
		_cleanup_free_ char *lines = xstrdup(*manifest);

		r = each_entry(lines, take_entry, t);
	}
	if (r == 0)
		r = t->left > 0 ? -EBADMSG : set_modes(t, *manifest);
	if (r == 0 && fchmod(t->tree, mode) < 0)
		r = -errno;
	return r;
}

void pack_clear(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *e;

	chmod(path, 0700);
	while (dir && (e = readdir(dir))) {
		_cleanup_free_ char *inside = xasprintf("%s/%s", path, e->d_name);

		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			tree_remove(inside);
	}
	if (dir)
		closedir(dir);
}

int pack_take_tree(struct work *w, int from, uint64_t size)
{
	_cleanup_free_ char *draft = xasprintf("%s/.fixd-draft", w->job.tree), *manifest = NULL, *buf = xcalloc(1, CHUNK);
	_cleanup_fd_ int tree = mkdir(draft, 0700) < 0 ? -1 : open(draft, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct taking t = { .from = from, .tree = tree, .left = size, .buf = buf };
	size_t n = 0;
	int r = tree < 0 ? -errno : take_all(w, &t, size, &manifest, &n);

	if (r == 0)
		r = work_take_draft(w, draft);
	if (r == 0 && (w->space.used != n || memcmp(w->space.base, manifest, n) != 0))
		r = -EBADMSG;
	if (r == 0)
		return 0;
	fprintf(stderr, "fixd-builder: the tree of '%s' is not taken from the remote: %s\n", w->job.name,
		r == -EBADMSG ? "it is not what its manifest says" : strerror(-r));
	return work_fail(w, r, "its tree cannot be taken from the remote");
}
