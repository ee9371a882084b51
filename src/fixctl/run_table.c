/* SPDX-License-Identifier: MIT */
/* The table of a run: what is shown at which path, written for the processes of the run. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/preloads.h"
#include "fixctl/run.h"
#include "image/region.h"

/* Adds the string; its offset. */
static uint32_t put(struct text *t, const char *s)
{
	uint32_t at = (uint32_t)t->size;

	text_add(t, s, strlen(s) + 1);
	return at;
}

static struct run_entry entry_of(const struct shown *x, const struct scratch *s, size_t i, struct text *t)
{
	_cleanup_free_ char *own = copies_own(s, i), *marker = scratch_marker(s, i);
	struct run_entry e = {
		.kind = x->kind,
		.fd = x->fd,
		.mode = x->looks.st_mode & 07777,
		.uid = x->looks.st_uid,
		.gid = x->looks.st_gid,
		.mtime = x->looks.st_mtim.tv_sec,
		.mtime_ns = (uint32_t)x->looks.st_mtim.tv_nsec,
		.size = x->size,
		.inode = x->looks.st_ino,
		.blocks = (uint64_t)x->looks.st_blocks,
	};
	struct stat st;

	e.name = put(t, x->name);
	e.path = put(t, x->path);
	e.tree = put(t, x->tree ? x->tree : "");
	e.own = put(t, own);
	e.marker = put(t, marker);
	if (x->kind == RUN_TREE && stat(x->tree, &st) == 0) {
		e.owner = st.st_uid;
		e.links = x->links;
		e.uid = geteuid();
		e.gid = getegid();
	}
	return e;
}

/* Of the trees and of what will be copied from them, or 0. */
static uint64_t device_of_all(const struct shown_list *l, const struct scratch *s)
{
	struct stat of_copies, st;

	if (stat(s->copies, &of_copies) < 0)
		return 0;
	for (size_t i = 0; i < l->n; i++) {
		if (l->all[i].kind == RUN_TREE && (stat(l->all[i].tree, &st) < 0 || st.st_dev != of_copies.st_dev))
			return 0;
	}
	return of_copies.st_dev;
}

/*
 * From one real directory to another one, which it is much faster to come to so than from the root, over the mounts that are on the way from
 * there. NULL: nothing but the root is above both.
 */
static char *way_to(const char *from, const char *to)
{
	_cleanup_text_ struct text t = { 0 };
	size_t common = 0;

	for (size_t k = 1; from[k - 1] == to[k - 1]; k++) {
		if ((!from[k] || from[k] == '/') && (!to[k] || to[k] == '/'))
			common = k;
		if (!from[k] || !to[k])
			break;
	}
	if (common <= 1)
		return NULL;
	for (const char *p = from + common; *p; p++) {
		if (*p == '/')
			text_puts(&t, "../");
	}
	text_puts(&t, to[common] ? to + common + 1 : ".");
	return text_steal(&t);
}

/* Short links can be made of one that is not. */
static int make_marker(const struct shown *x, const struct scratch *s, size_t i)
{
	_cleanup_free_ char *marker = scratch_marker(s, i), *path = xasprintf("%s/%s", s->copies, marker),
			    *from = realpath(s->copies, NULL), *to = x->kind == RUN_TREE ? realpath(x->tree, NULL) : NULL,
			    *way = from && to ? way_to(from, to) : NULL;

	return x->kind == RUN_TREE && symlink(way ? way : x->tree, path) < 0 ? -errno : 0;
}

void environment_set(const struct shown_list *l, const char *id, const char *socket, const struct run_options *o)
{
	setenv("FIXD_RUN", id, 1);
	setenv("FIXD_SOCKET", socket, 1);
	if (o->reset_on_fork)
		setenv("FIXD_RESET_ON_FORK", "1", 1);
	if (o->blame)
		setenv("FIXD_BLAME", "1", 1);
	for (size_t i = 0; i < l->n; i++)
		setenv(l->all[i].variable, l->all[i].path, 1);
}

static void put_variable(struct text *t, uint32_t *n, const char *name)
{
	const char *value = getenv(name);
	_cleanup_free_ char *both = value ? xasprintf("%s=%s", name, value) : NULL;

	if (!both)
		return;
	put(t, both);
	++*n;
}

/* What a child with its parent's environment has; one whose environment was cleared gets it from the shim. */
static void put_variables(struct run_table *head, struct text *t, const struct shown_list *l)
{
	head->variables = (uint32_t)t->size;
	put_variable(t, &head->n_variables, RUN_TABLE_VARIABLE);
	put_variable(t, &head->n_variables, "FIXD_RUN");
	put_variable(t, &head->n_variables, "FIXD_SOCKET");
	put_variable(t, &head->n_variables, "FIXD_RESET_ON_FORK");
	put_variable(t, &head->n_variables, "FIXD_BLAME");
	put_variable(t, &head->n_variables, "FIXD_BLAME_FILE");
	for (size_t i = 0; i < l->n; i++)
		put_variable(t, &head->n_variables, l->all[i].variable);
}

/* Of the run that this one is in, if there is one. */
static bool is_shim(struct preload p)
{
	const char *slash = memrchr(p.name, '/', p.size), *name = slash ? slash + 1 : p.name;

	return getenv(RUN_TABLE_VARIABLE) && !strncmp(name, "libfixd-preload.so", 18);
}

static void put_others(struct text *value, const char *had, bool first)
{
	struct preload p;

	while (had && (p = preload_next(&had)).size) {
		if (preload_is_others(p, had, is_shim) && preload_is_sanitizer(p) == first)
			text_printf(value, "%s%.*s", value->size ? ":" : "", (int)p.size, p.name);
	}
}

/*
 * For processes that are not started through the shim, and thus by name: the first program of the run is one. NULL: without, and
 * without that of a run that this one is in.
 */
static void set_preload(const char *shim)
{
	_cleanup_text_ struct text value = { 0 };
	_cleanup_free_ char *had = getenv("LD_PRELOAD") ? xstrdup(getenv("LD_PRELOAD")) : NULL;

	put_others(&value, had, true);
	if (shim)
		text_printf(&value, "%s%s", value.size ? ":" : "", shim);
	put_others(&value, had, false);
	if (value.size)
		setenv("LD_PRELOAD", value.data, 1);
	else
		unsetenv("LD_PRELOAD");
}

void environment_drop_preload(void)
{
	set_preload(NULL);
}

void environment_drop_shim(void)
{
	if (!getenv(RUN_TABLE_VARIABLE))
		return;
	environment_drop_preload();
	unsetenv(RUN_TABLE_VARIABLE);
}

int table_write(const struct shown_list *l, const struct scratch *s, const char *shim, unsigned flags)
{
	_cleanup_free_ char *path = xasprintf("%s/table", s->path), *lock = xasprintf("%s/changing", s->path),
			    *loop = xasprintf("%s/" RUN_TABLE_LOOP, s->inner), *self = NULL;
	_cleanup_fd_ int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
			 lock_fd = open(lock, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct run_table head = { .flags = flags, .region_start = l->region_start, .region_size = REGION_SIZE };
	struct run_entry *entries = xcalloc(l->n, sizeof *entries);
	struct run_alias *aliases = xcalloc(list_count(l->aliases) / 2 + 1, sizeof *aliases);
	uint32_t *mounts = xcalloc(l->n, sizeof *mounts);
	_cleanup_text_ struct text t = { 0 };
	int fd = file < 0 ? -1 : fcntl(file, F_DUPFD_CLOEXEC, shown_first_fd()),
	    r = fd < 0 || lock_fd < 0 || symlink(RUN_TABLE_LOOP, loop) < 0 ? -errno : 0;
	struct stat of_table = { 0 }, of_lock = { 0 };
	struct statvfs of_tree;

	memcpy(head.magic, RUN_TABLE_MAGIC, sizeof head.magic);
	head.fd = fd;
	head.lock_fd = s->lock;
	if (r == 0 && (fstat(fd, &of_table) < 0 || fstat(s->lock, &of_lock) < 0))
		r = -errno;
	head.scratch_device = of_table.st_dev;
	head.table_inode = of_table.st_ino;
	head.lock_inode = of_lock.st_ino;
	head.keeper = (uint32_t)getppid();
	for (size_t i = 0; i < l->n; i++) {
		if (l->all[i].kind == RUN_FILE)
			head.device = l->all[i].looks.st_dev;
		if (l->all[i].kind == RUN_FILE || !(flags & RUN_TREES_MOUNTED))
			head.n_entries++;
		if (l->all[i].kind == RUN_TREE && statvfs(l->all[i].tree, &of_tree) == 0 && (of_tree.f_flag & ST_NOEXEC))
			head.flags |= RUN_TREES_NOEXEC;
	}
	head.tree_device = device_of_all(l, s);
	head.n_mounts = (uint32_t)l->n - head.n_entries;
	head.n_aliases = (uint32_t)(list_count(l->aliases) / 2);
	head.entries = sizeof head;
	head.aliases = head.entries + head.n_entries * (uint32_t)sizeof *entries;
	head.mounts = head.aliases + head.n_aliases * (uint32_t)sizeof *aliases;
	/* Their places, to be filled when the strings have theirs. */
	for (size_t n = head.mounts + head.n_mounts * sizeof *mounts; n > 0; n--)
		text_add(&t, "", 1);
	head.scratch = put(&t, s->inner);
	head.lock = put(&t, lock);
	head.shim = put(&t, shim);
	for (size_t i = 0, k = 0, m = 0; i < l->n; i++) {
		if (l->all[i].kind == RUN_FILE || !(flags & RUN_TREES_MOUNTED)) {
			entries[k++] = entry_of(&l->all[i], s, i, &t);
			r = r < 0 ? r : make_marker(&l->all[i], s, i);
		} else {
			mounts[m++] = put(&t, l->all[i].path);
		}
	}
	for (size_t i = 0; i < head.n_aliases; i++)
		aliases[i] = (struct run_alias){ put(&t, l->aliases[2 * i]), put(&t, l->aliases[2 * i + 1]) };
	self = xasprintf("%d:%s", fd, path);
	set_preload(shim);
	setenv(RUN_TABLE_VARIABLE, self, 1);
	put_variables(&head, &t, l);
	/* A hole, as nearly always nothing comes there. */
	head.inodes = ((uint32_t)t.size + 7) & ~7u;
	head.links = head.inodes + RUN_INODES * (uint32_t)sizeof(struct run_inode);
	head.links_end = head.links + RUN_LINKS * (uint32_t)sizeof(uint32_t);
	head.size = head.links_end + RUN_LINKS_TEXT;
	memcpy(t.data, &head, sizeof head);
	memcpy(t.data + head.entries, entries, head.n_entries * sizeof *entries);
	memcpy(t.data + head.aliases, aliases, head.n_aliases * sizeof *aliases);
	memcpy(t.data + head.mounts, mounts, head.n_mounts * sizeof *mounts);
	free(entries);
	free(mounts);
	free(aliases);
	if (r == 0)
		r = fd_write_all(fd, t.data, t.size);
	if (r == 0 && ftruncate(fd, head.size) < 0)
		r = -errno;
	if (r < 0) {
		fd_close(fd);
		return r;
	}
	return fd;
}

/* Entries of the table stand in the order of the fixtures, without those that are mounted: they are known by where their copies are. */
bool table_is_private(const struct scratch *s, size_t i)
{
	_cleanup_free_ char *path = xasprintf("%s/table", s->path), *own = copies_own(s, i), *data = NULL;
	struct run_table head;
	size_t size;
	bool private = false;

	if (file_read_all(path, RUN_TABLE_MAX, &data, &size) < 0 || size < sizeof head)
		return false;
	memcpy(&head, data, sizeof head);
	for (uint32_t k = 0; k < head.n_entries && !private; k++) {
		struct run_entry e;

		memcpy(&e, data + head.entries + k * sizeof e, sizeof e);
		private = e.state == RUN_PRIVATE && !strcmp(data + e.own, own);
	}
	return private;
}
