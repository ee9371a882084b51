/* SPDX-License-Identifier: MIT */
/*
 * What a run has changed: each fixture as it was shown, against what the run has in its place when its command has ended. What is the
 * same inode, or was not touched by what the kernel says of it, is not read.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/attributes.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/text.h"
#include "base/utf8.h"
#include "fixctl/run.h"

struct comparing {
	const struct shown *x;
	const struct changes_options *o;
	const char *marker; /* scratch_marker() */
	json_t *list;	    /* of changes */
	int error;	    /* the first of keeping them */
};

/* In a line of its own, as git has it: in quotes, with numbers for bytes that are no text, if there are such. To be freed. */
static char *quoted(const char *path)
{
	struct text t = { 0 };
	bool plain = true;

	text_puts(&t, "\"");
	for (const char *p = path; *p;) {
		size_t n = utf8_length(p, strlen(p));
		bool is_text = n && (unsigned char)*p >= ' ' && *p != 0x7f;

		if (!is_text)
			text_printf(&t, "\\%03o", (unsigned char)*p);
		else if (*p == '"' || *p == '\\')
			text_printf(&t, "\\%c", *p);
		else
			text_add(&t, p, n);
		plain &= is_text;
		p += is_text ? n : 1;
	}
	text_puts(&t, "\"");
	if (!plain)
		return text_steal(&t);
	text_deinit(&t);
	return xstrdup(path);
}

static void changes_add(struct comparing *c, const char *change, const char *rest)
{
	_cleanup_free_ char *path = xasprintf("%s%s%s", c->x->path, *rest ? "/" : "", rest), *line = quoted(path);

	json_array_append_new(c->list, json_pack("{s:s, s:s, s:o}", "change", change, "fixture", c->x->name, "path",
						 c->o->json ? ctl_text(path, strlen(path)) : ctl_text(line, strlen(line))));
}

static int copy_bytes(int from, int to)
{
	ssize_t n;

	do {
		n = sendfile(to, from, NULL, 1 << 30);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

static int make_copy(int dirfd, const char *name, const struct stat *st, const char *to)
{
	const struct timespec times[2] = { st->st_atim, st->st_mtim };
	_cleanup_fd_ int in = -1, out = -1;
	char target[PATH_MAX];
	ssize_t n;
	int r;

	if (S_ISDIR(st->st_mode)) {
		if (mkdir(to, 0700) < 0 && errno != EEXIST)
			return -errno;
		/* What is in it comes first; of one that cannot be read nothing does. */
		in = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		out = in < 0 ? -1 : open(to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (out < 0)
			return in < 0 && errno == EACCES ? 0 : -errno;
		r = owner_copy(out, st->st_uid, st->st_gid);
		return r < 0 ? r : attributes_copy(in, out, false, NULL, NULL);
	}
	if (S_ISLNK(st->st_mode)) {
		n = readlinkat(dirfd, name, target, sizeof target - 1);
		target[n < 0 ? 0 : n] = '\0';
		return n < 0 || symlink(target, to) < 0 ? -errno : 0;
	}
	if (!S_ISREG(st->st_mode))
		return mknod(to, st->st_mode, st->st_rdev) < 0 ? -errno : 0;
	in = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	r = copy_bytes(in, out);
	if (r == 0)
		r = owner_copy(out, st->st_uid, st->st_gid);
	if (r == 0)
		r = attributes_copy(in, out, false, NULL, NULL);
	return r < 0 ? r : fchmod(out, st->st_mode & 07777) < 0 || futimens(out, times) < 0 ? -errno : 0;
}

/* In the directory that --keep names, by fixture and by path in it. */
static char *kept_path(const struct comparing *c, const char *rest)
{
	return xasprintf("%s/%s%s%s", c->o->keep, c->x->variable + strlen("FIXD_FIXTURE_"), *rest ? "/" : "", rest);
}

static void check_kept(struct comparing *c, const char *to, int r)
{
	if (r < 0) {
		fprintf(stderr, "fixctl: --keep: %s: %s\n", to, strerror(-r));
		c->error = r;
	}
}

static void keep(struct comparing *c, int dirfd, const char *name, const struct stat *st, const char *rest)
{
	_cleanup_free_ char *to = NULL, *above = NULL;
	char *slash;
	int r;

	if (!c->o->keep || c->error)
		return;
	to = kept_path(c, rest);
	above = xstrdup(to);
	slash = strrchr(above, '/');
	*slash = '\0';
	/* Directories that are as they were: what they hide stays hidden. */
	r = dir_make_all(above, 0700);
	if (r == 0)
		r = make_copy(dirfd, name, st, to);
	check_kept(c, to, r);
}

/* Now that what is in it is there. */
static void finish_directory(struct comparing *c, const struct stat *st, const char *rest)
{
	_cleanup_free_ char *to = c->o->keep && !c->error ? kept_path(c, rest) : NULL;

	if (to)
		check_kept(c, to, chmod(to, st->st_mode & 07777) < 0 ? -errno : 0);
}

static bool same_bytes(int a, int b)
{
	static char x[65536], y[65536];

	for (off_t at = 0;; at += (off_t)sizeof x) {
		ssize_t n = fd_pread_all(a, x, sizeof x, at), m = fd_pread_all(b, y, sizeof y, at);

		if (n < 0 || n != m || memcmp(x, y, (size_t)n) != 0)
			return false;
		if (n < (ssize_t)sizeof x)
			return true;
	}
}

static bool same_time(const struct stat *was, const struct stat *is)
{
	return was->st_ctim.tv_sec == is->st_ctim.tv_sec && was->st_ctim.tv_nsec == is->st_ctim.tv_nsec;
}

static bool same_content(int was_fd, int is_fd, const char *name, const struct stat *was, const struct stat *is)
{
	char x[PATH_MAX], y[PATH_MAX];
	_cleanup_fd_ int a = -1, b = -1;
	ssize_t n, m;

	if (S_ISLNK(is->st_mode)) {
		n = readlinkat(was_fd, name, x, sizeof x);
		m = readlinkat(is_fd, name, y, sizeof y);
		return n >= 0 && n == m && !memcmp(x, y, (size_t)n);
	}
	if (!S_ISREG(is->st_mode))
		return was->st_rdev == is->st_rdev;
	if (was->st_size != is->st_size)
		return false;
	if (same_time(was, is))
		return true;
	a = openat(was_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	b = openat(is_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return a >= 0 && b >= 0 && same_bytes(a, b);
}

/* Whose it is, where this process can give something away, and what stands with it. */
static bool same_attributes(int was_fd, int is_fd, const char *name, const struct stat *was, const struct stat *is)
{
	_cleanup_fd_ int a = -1, b = -1;

	if (same_time(was, is))
		return true;
	if (geteuid() == 0 && (was->st_uid != is->st_uid || was->st_gid != is->st_gid))
		return false;
	if (!S_ISREG(is->st_mode) && !S_ISDIR(is->st_mode))
		return true;
	a = openat(was_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	b = openat(is_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return a < 0 || b < 0 || attributes_equal(a, b);
}

/* Of the shim's copy: what stands for what was not touched. */
static bool is_marker(const struct comparing *c, int dirfd, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = S_ISLNK(st->st_mode) ? readlinkat(dirfd, name, target, sizeof target - 1) : 0;

	target[n > 0 ? n : 0] = '\0';
	return n > 0 && c->x->tree && path_behind(target, c->marker);
}

static void compare_directories(struct comparing *c, int was, int is, const char *rest);

static void compare_below(struct comparing *c, int was, int is, const char *name, const char *rest)
{
	_cleanup_fd_ int a = was < 0 ? -1 : openat(was, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			 b = openat(is, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	/* What is in one that the run has closed nobody can see. */
	if (b >= 0 || errno != EACCES)
		compare_directories(c, a, b, rest);
}

static void compare_entry(struct comparing *c, int was_fd, int is_fd, const char *name, const char *rest)
{
	bool was_there, is_there, same_kind, differs;
	struct stat was, is;

	was_there = was_fd >= 0 && fstatat(was_fd, name, &was, AT_SYMLINK_NOFOLLOW) == 0;
	is_there = is_fd >= 0 && fstatat(is_fd, name, &is, AT_SYMLINK_NOFOLLOW) == 0;
	if (!is_there) {
		if (was_there)
			changes_add(c, "deleted", rest);
		return;
	}
	if (is_marker(c, is_fd, name, &is))
		return;
	same_kind = was_there && (was.st_mode & S_IFMT) == (is.st_mode & S_IFMT);
	differs = !was_there || !same_kind || (was.st_mode & 07777) != (is.st_mode & 07777) ||
		  (!S_ISDIR(is.st_mode) && !same_content(was_fd, is_fd, name, &was, &is)) ||
		  !same_attributes(was_fd, is_fd, name, &was, &is);
	if (differs) {
		changes_add(c, was_there ? "changed" : "new", rest);
		keep(c, is_fd, name, &is, rest);
	}
	if (!S_ISDIR(is.st_mode))
		return;
	compare_below(c, same_kind ? was_fd : -1, is_fd, name, rest);
	if (differs)
		finish_directory(c, &is, rest);
}

static int changes_by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_names(int dirfd, char ***names, size_t *n)
{
	int fd = dirfd < 0 ? -1 : openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *d;

	if (!dir)
		fd_close(fd);
	while (dir && (d = readdir(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		*names = xrealloc(*names, (*n + 2) * sizeof **names);
		(*names)[(*n)++] = xstrdup(d->d_name);
		(*names)[*n] = NULL;
	}
	if (dir)
		closedir(dir);
}

static void compare_directories(struct comparing *c, int was, int is, const char *rest)
{
	char **names = NULL;
	size_t n = 0;

	add_names(was, &names, &n);
	add_names(is, &names, &n);
	if (n)
		qsort(names, n, sizeof *names, changes_by_name);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *path = NULL;

		if (i > 0 && !strcmp(names[i], names[i - 1]))
			continue;
		path = xasprintf("%s%s%s", rest, *rest ? "/" : "", names[i]);
		compare_entry(c, was, is, names[i], path);
	}
	list_free(names);
}

static void compare_file(struct comparing *c, const char *own)
{
	_cleanup_fd_ int is = open(own, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (is < 0 || fstat(is, &st) < 0) {
		changes_add(c, "deleted", "");
	} else if ((uint64_t)st.st_size != c->x->size || (st.st_mode & 07777) != (c->x->looks.st_mode & 07777) ||
		   !same_bytes(c->x->fd, is)) {
		changes_add(c, "changed", "");
		keep(c, AT_FDCWD, own, &st, "");
	}
}

/* A fixture that the shim has copied up is at own-N; one that nobody has changed is not, and one that is gone has left its mark. */
static void changes_compare_one(struct comparing *c, const struct scratch *s, size_t i, int shown)
{
	_cleanup_free_ char *own = copies_own(s, i);
	_cleanup_fd_ int was = c->x->kind == RUN_TREE ? open(c->x->tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, is = -1;

	if (shown >= 0) {
		compare_directories(c, was, shown, "");
		return;
	}
	if (!table_is_private(s, i))
		return;
	if (c->x->kind == RUN_FILE) {
		compare_file(c, own);
		return;
	}
	is = open(own, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (is < 0)
		changes_add(c, "deleted", "");
	else
		compare_directories(c, was, is, "");
}

static void changes_print(const struct changes_options *o, const json_t *list, FILE *to)
{
	if (o->json) {
		json_dumpf(list, to, JSON_INDENT(2));
		putc('\n', to);
		return;
	}
	for (size_t k = 0; k < json_array_size(list); k++)
		fprintf(to, "%s %s\n", ctl_string(json_array_get(list, k), "change"), ctl_string(json_array_get(list, k), "path"));
}

int changes_tell(const struct shown_list *l, const struct scratch *s, const int *trees, const struct changes_options *o)
{
	json_t *list = json_array();
	int r = 0;

	for (size_t i = 0; i < l->n; i++) {
		_cleanup_free_ char *marker = scratch_marker(s, i);
		struct comparing c = { .x = &l->all[i], .o = o, .marker = marker, .list = list };

		changes_compare_one(&c, s, i, trees ? trees[i] : -1);
		r = r ? r : c.error;
	}
	if (o->list) {
		FILE *to = o->file ? fopen(o->file, "we") : stderr;

		if (to)
			changes_print(o, list, to);
		if (!to || (o->file && fclose(to) != 0)) {
			fprintf(stderr, "fixctl: --changes: %s: %s\n", o->file, strerror(errno));
			r = -errno;
		}
	}
	json_decref(list);
	return r;
}
