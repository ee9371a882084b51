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
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/attributes.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/tree.h"
#include "image/digest.h"

#define PAGE 4096

/* So much is asked for at once. */
#define STEP ((uint64_t)256 << 10)

/* A file of several names. */
struct shared_file {
	dev_t device;
	ino_t inode;   /* 0: a free place in the table */
	nlink_t names; /* of it, in what is consumed */
	char *path;    /* that it was copied to, or NULL */
};

struct copy {
	const struct manifest_host *host;
	enum manifest_modes modes;
	bool consume;	/* the original goes while it is copied */
	uint64_t mount; /* that it lies in: what is mounted there is not consumed */
	int root;	/* of the copy */
	uid_t uid;	/* whose it is */
	gid_t gid;
	struct shared_file *shared; /* a table by inode, at most half full */
	size_t n_shared, room_shared;
	uint64_t original, granted;
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
	if (total <= c->granted || !c->host->grant)
		return 0;
	/* Many small ones are one question; what is too much by that only may still fit. */
	steps = (total + STEP - 1) / STEP * STEP;
	r = c->host->grant(c->host->arg, steps);
	if (r < 0) {
		steps = total;
		r = c->host->grant(c->host->arg, steps);
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

static void add_attribute(void *arg, const char *name, const void *value, size_t size)
{
	struct text *t = arg;

	text_add(t, name, strlen(name) + 1);
	text_add(t, value, size);
	text_add(t, "", 1);
}

/* The owner and the attributes, and a line for them where there are any of note. */
static int give(struct copy *c, int in, int out, const struct stat *st, const char *path)
{
	_cleanup_text_ struct text attributes = { 0 };
	bool as_is = c->modes == MANIFEST_AS_IS;
	char hex[DIGEST_HEX_SIZE];
	struct stat is;
	int r = as_is ? owner_copy(out, st->st_uid, st->st_gid) : 0;

	if (r == 0)
		r = attributes_copy(in, out, !as_is, add_attribute, &attributes);
	if (r == 0 && attributes.size)
		r = budget(c, attributes.size);
	if (r == 0 && fstat(out, &is) < 0)
		r = -errno;
	if (r < 0 || (is.st_uid == c->uid && is.st_gid == c->gid && attributes.size == 0))
		return r;
	text_printf(c->manifest, "a %u %u 0 %s ", is.st_uid, is.st_gid, digest_format(digest_bytes(attributes.data, attributes.size), hex));
	put_name(c->manifest, path);
	text_puts(c->manifest, "\n");
	return 0;
}

/* The last that happens to a copy. */
static int finish(const struct copy *c, int fd, const struct stat *st)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };

	return fchmod(fd, mode_of(c, st)) < 0 || futimens(fd, times) < 0 ? -errno : 0;
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

/* The pieces of a file and the holes between; where holes cannot be asked for it is one piece. */
static int copy_pieces(struct copy *c, int in, int out, off_t size, char *buf, struct digest_stream *stream)
{
	int r = 0;

	for (off_t at = 0, data, hole; r == 0 && at < size; at = hole) {
		data = lseek(in, at, SEEK_DATA);
		if (data < 0)
			data = errno == ENXIO ? size : at;
		digest_add_zeros(stream, (uint64_t)((data < size ? data : size) - at));
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

/* Its place in the table, taken or free. */
static struct shared_file *shared_at(const struct copy *c, dev_t device, ino_t inode)
{
	size_t i = (inode * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (c->room_shared - 1);

	while (c->shared[i].inode && (c->shared[i].inode != inode || c->shared[i].device != device))
		i = (i + 1) & (c->room_shared - 1);
	return &c->shared[i];
}

static void make_room(struct copy *c)
{
	struct shared_file *had = c->shared;
	size_t n = c->room_shared;

	if (2 * c->n_shared < n)
		return;
	c->room_shared = n ? 2 * n : 64;
	c->shared = xcalloc(c->room_shared, sizeof *c->shared);
	for (size_t i = 0; i < n; i++) {
		if (had[i].inode)
			*shared_at(c, had[i].device, had[i].inode) = had[i];
	}
	free(had);
}

/* One more is known of a file that has several. */
static void add_name(struct copy *c, struct shared_file *f, const struct stat *st)
{
	if (!f->inode) {
		*f = (struct shared_file){ .device = st->st_dev, .inode = st->st_ino };
		c->n_shared++;
	}
}

/* Has it no names but those in what is consumed? */
static bool is_all_here(const struct copy *c, const struct stat *st)
{
	return st->st_nlink == 1 || (c->n_shared && shared_at(c, st->st_dev, st->st_ino)->names == st->st_nlink);
}

#define CAPABILITIES "security.capability"
#define CAPABILITIES_MAX 64 /* struct vfs_ns_cap_data of linux/capability.h has 24 */

static int copy_file(struct copy *c, int from, int to, const char *name, const struct stat *st, const char *path)
{
	/* To give its pages back while they are copied; with a name elsewhere it is another one's who is not consumed. */
	bool writable = c->consume && is_all_here(c, st) && fchmodat(from, name, 0600, 0) == 0;
	_cleanup_fd_ int in = openat(from, name, (writable ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC);
	_cleanup_fd_ int out = in < 0 ? -1 : openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	char hex[DIGEST_HEX_SIZE], capabilities[CAPABILITIES_MAX];
	struct digest digest = { 0 };
	ssize_t has;
	int r;

	if (in < 0 || out < 0)
		return fail(c, path, -errno);
	has = writable ? fgetxattr(in, CAPABILITIES, capabilities, sizeof capabilities) : -1;
	r = budget(c, MANIFEST_ENTRY);
	if (r == 0)
		r = copy_bytes(c, in, out, st->st_size, &digest);
	/* The kernel takes them from a file that is written to, or gives pages back. */
	if (r == 0 && has > 0 && fsetxattr(in, CAPABILITIES, capabilities, (size_t)has, 0) < 0 && errno != EPERM)
		r = -errno;
	if (r < 0)
		return fail(c, path, r);
	text_printf(c->manifest, "f %o %" PRIu64 " %" PRId64 ".%09ld %s ", mode_of(c, st), (uint64_t)st->st_size,
		    (int64_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, digest_format(digest, hex));
	put_name(c->manifest, path);
	text_puts(c->manifest, "\n");
	r = give(c, in, out, st, path);
	if (r == 0)
		r = finish(c, out, st);
	return r < 0 ? fail(c, path, r) : 0;
}

/* The first name of a file that has several, or NULL: this one is. What is consumed loses its names on the way. */
static const char *first_name(struct copy *c, const struct stat *st, const char *path)
{
	struct shared_file *f;

	if (st->st_nlink < 2 && !(c->consume && c->n_shared))
		return NULL;
	make_room(c);
	f = shared_at(c, st->st_dev, st->st_ino);
	if (!f->inode && st->st_nlink < 2)
		return NULL;
	add_name(c, f, st);
	if (f->path)
		return f->path;
	f->path = xstrdup(path);
	return NULL;
}

static int copy_name(struct copy *c, int to, const char *name, const char *first, const char *path)
{
	int r = budget(c, MANIFEST_ENTRY);

	if (r == 0 && linkat(c->root, first, to, name, 0) < 0)
		r = -errno;
	if (r < 0)
		return fail(c, path, r);
	text_puts(c->manifest, "h 0 0 0 - ");
	put_name(c->manifest, path);
	text_puts(c->manifest, " -> ");
	put_name(c->manifest, first);
	text_puts(c->manifest, "\n");
	return 0;
}

/* What the directory's default list has given it: there may be none, or no such lists at all. */
static void drop_inherited(int to, const char *name)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d/%s", to, name);

	lremovexattr(path, "system.posix_acl_access");
}

/* A FIFO, a socket or a device: a new one of the kind. */
static int copy_special(struct copy *c, int to, const char *name, const struct stat *st, const char *path)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	bool device = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
	char kind = S_ISFIFO(st->st_mode) ? 'p' : S_ISSOCK(st->st_mode) ? 's' : S_ISCHR(st->st_mode) ? 'c' : 'b';
	int r = budget(c, MANIFEST_ENTRY);

	if (r < 0)
		return fail(c, path, r);
	if (mknodat(to, name, (st->st_mode & S_IFMT) | 0600, device ? st->st_rdev : 0) < 0) {
		if (!device || errno != EPERM)
			return fail(c, path, -errno);
		c->host->left_out(c->host->arg, path, "this user may not make devices");
		return 0;
	}
	drop_inherited(to, name);
	r = c->modes == MANIFEST_AS_IS ? owner_copy_at(to, name, st->st_uid, st->st_gid) : 0;
	if (r == 0 && (fchmodat(to, name, mode_of(c, st), 0) < 0 || utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0))
		r = -errno;
	if (r < 0)
		return fail(c, path, r);
	text_printf(c->manifest, "%c %o %u %u - ", kind, mode_of(c, st), device ? major(st->st_rdev) : 0, device ? minor(st->st_rdev) : 0);
	put_name(c->manifest, path);
	text_puts(c->manifest, "\n");
	return 0;
}

static int copy_link(struct copy *c, int from, int to, const char *name, const struct stat *st, const char *path)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, st->st_mtim };
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof target - 1);

	if (n < 0)
		return fail(c, path, -errno);
	target[n] = '\0';
	if (budget(c, MANIFEST_ENTRY) < 0)
		return fail(c, path, -EDQUOT);
	if (symlinkat(target, to, name) < 0 || utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (c->modes == MANIFEST_AS_IS && owner_copy_at(to, name, st->st_uid, st->st_gid) < 0))
		return fail(c, path, -errno);
	text_puts(c->manifest, "l 777 0 0 - ");
	put_name(c->manifest, path);
	text_puts(c->manifest, " -> ");
	put_name(c->manifest, target);
	text_puts(c->manifest, "\n");
	return 0;
}

static int copy_directory(struct copy *c, int from, int to, const char *path);

/* One that is consumed must let its owner in. */
static int open_directory(const struct copy *c, int at, const char *name, const struct stat *st)
{
	if (c->consume && (st->st_mode & S_IRWXU) != S_IRWXU && fchmodat(at, name, S_IRWXU, 0) < 0)
		return -1;
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int copy_subdirectory(struct copy *c, int from, int to, const char *name, const struct stat *st, const char *path)
{
	_cleanup_fd_ int in = open_directory(c, from, name, st), out = -1;
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
	r = give(c, in, out, st, path);
	if (r < 0)
		return fail(c, path, r);
	r = copy_directory(c, in, out, path);
	if (r == 0 && (r = finish(c, out, st)) < 0)
		fail(c, path, r);
	return r;
}

static int copy_entry(struct copy *c, int from, int to, const char *name, const char *path)
{
	const char *first;
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(c, path, -errno);
	if (c->consume && mount_of(from, name) != c->mount)
		return fail(c, path, -EXDEV);
	if (S_ISDIR(st.st_mode))
		return copy_subdirectory(c, from, to, name, &st, path);
	first = first_name(c, &st, path);
	if (first)
		return copy_name(c, to, name, first, path);
	if (S_ISREG(st.st_mode))
		return copy_file(c, from, to, name, &st, path);
	return S_ISLNK(st.st_mode) ? copy_link(c, from, to, name, &st, path) : copy_special(c, to, name, &st, path);
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
	int r;

	if (!dir) {
		r = -errno;
		fd_close(fd);
		return r;
	}
	while ((e = dir_next(dir, &r))) {
		names = xrealloc(names, (n + 2) * sizeof *names);
		names[n++] = xstrdup(e->d_name);
		names[n] = NULL;
	}
	closedir(dir);
	if (n)
		qsort(names, n, sizeof *names, by_name);
	/* Half of a directory is none. */
	*out = names;
	*out_n = n;
	return r;
}

/* What was copied is not needed any more, nor counted. */
static int consume(struct copy *c, int from, const char *name, const char *path)
{
	struct stat st;

	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || unlinkat(from, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) < 0)
		return fail(c, path, -errno);
	/* Only with its last name a file goes itself. */
	forget(c, S_ISREG(st.st_mode) && st.st_nlink == 1 ? MANIFEST_ENTRY + (uint64_t)st.st_blocks * 512 : MANIFEST_ENTRY);
	return 0;
}

/* What an entry takes; of a file with several names that is asked for when all of them are known. */
static uint64_t measure_entry(struct copy *c, const struct stat *st)
{
	struct shared_file *f;

	if (!S_ISREG(st->st_mode))
		return MANIFEST_ENTRY;
	if (st->st_nlink > 1) {
		make_room(c);
		f = shared_at(c, st->st_dev, st->st_ino);
		add_name(c, f, st);
		if (++f->names < st->st_nlink)
			return MANIFEST_ENTRY;
	}
	return MANIFEST_ENTRY + (uint64_t)st->st_blocks * 512;
}

/* What a tree takes; one that cannot be looked through is refused when it is copied. */
static uint64_t measure(struct copy *c, int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	uint64_t bytes = 0;

	while (dir && (e = readdir(dir))) {
		struct stat st;
		int child;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    mount_of(fd, e->d_name) != c->mount)
			continue;
		bytes += measure_entry(c, &st);
		child = S_ISDIR(st.st_mode) ? openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		if (child >= 0)
			bytes += measure(c, child);
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

	if (r < 0 && *path) /* where it is the whole, the caller names it */
		fail(c, path, r);
	for (size_t i = 0; r == 0 && i < n; i++) {
		_cleanup_free_ char *child = xasprintf("%s%s%s", path, *path ? "/" : "", names[i]);

		if (glob_excludes(c->host->exclude, child))
			continue;
		r = copy_entry(c, from, to, names[i], child);
		if (r == 0 && c->consume)
			r = consume(c, from, names[i], child);
	}
	list_free(names);
	return r;
}

/* Only what lies in the same mount as the directory above. */
static int begin_to_consume(struct copy *c, int in, const char *from)
{
	_cleanup_free_ char *above = xstrndup(from, (size_t)(strrchr(from, '/') - from));

	c->mount = mount_of(AT_FDCWD, above);
	if (mount_of(in, "") != c->mount)
		return -EXDEV;
	if (fchmod(in, S_IRWXU) < 0)
		return -errno;
	c->original = measure(c, in);
	return budget(c, 0);
}

int manifest_copy_tree(const char *from, const char *to, enum manifest_modes modes, const struct manifest_host *host, struct text *manifest,
		       uint64_t *bytes, char **where)
{
	_cleanup_fd_ int in = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (modes & MANIFEST_CONSUME ? O_NOFOLLOW : 0));
	_cleanup_fd_ int out = in < 0 ? -1 : open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct copy c = {
		.host = host,
		.modes = modes & ~MANIFEST_CONSUME,
		.consume = modes & MANIFEST_CONSUME,
		.root = out,
		.uid = geteuid(),
		.gid = getegid(),
		.manifest = manifest,
		.where = where,
	};
	struct stat st;
	int r;

	*where = NULL;
	if (in < 0 || out < 0 || fstat(in, &st) < 0)
		return fail(&c, in < 0 ? from : to, -errno);
	if (c.consume) {
		r = begin_to_consume(&c, in, from);
		if (r < 0)
			return fail(&c, from, r);
	}
	r = give(&c, in, out, &st, ".");
	if (r == 0)
		r = copy_directory(&c, in, out, "");
	if (r == 0 && (r = finish(&c, out, &st)) < 0)
		fail(&c, to, r);
	for (size_t i = 0; i < c.room_shared; i++)
		free(c.shared[i].path);
	free(c.shared);
	*bytes = c.bytes;
	return r;
}
