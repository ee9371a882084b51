/* SPDX-License-Identifier: MIT */
/*
 * From what a program calls a file to where it is.
 *
 * The quick answer is one of text: a path that has no odd components and does not begin like any fixture's is not one. Only the
 * others are made normal, and only inside trees are links looked for. A relative path starts at the working directory, which is
 * kept as text, or at a descriptor, whose path the kernel tells. Buffers are few: threads may have small stacks.
 */
#include "preload/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/path.h"

#define LINKS_MAX 40

/* Takes the last component away. */
static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	slash[slash == path] = '\0';
}

static bool append(char *path, const char *name, size_t n)
{
	size_t length = strlen(path);

	length -= length == 1;
	if (length + 1 + n >= PATH_MAX)
		return false;
	path[length] = '/';
	memcpy(path + length + 1, name, n);
	path[length + 1 + n] = '\0';
	return true;
}

/* The visible directory that the path starts at. False: at one from where no fixture can be reached. */
static bool start_of(int dirfd, const char *path, char *out)
{
	if (*path == '/') {
		strcpy(out, "/");
		return true;
	}
	if (dirfd == AT_FDCWD)
		return cwd_cache_get(out);
	return !(fd_cache_reach(dirfd) == REACH_OUTSIDE && !has_parent(path) && !links_are_there()) && fd_cache_visible(dirfd, out);
}

/* Of a path of the kernel's to one of this process's descriptors only those of images and shared trees are our business. */
static APART enum reach reach_of_magic(const char *path)
{
	char visible[PATH_MAX];
	struct run_entry *e;
	const char *rest;
	bool shared;
	int fd;

	if (!fd_cache_magic(path, &fd, &rest))
		return path_table_reach(path, &e);
	if (fd == AT_FDCWD)
		return cwd_cache_is_outside() && !has_parent(rest) ? REACH_OUTSIDE : REACH_INSIDE;
	return fd_cache_entry_of(fd, visible, sizeof visible, &shared) && (shared || *rest) ? REACH_INSIDE : REACH_OUTSIDE;
}

/*
 * REACH_INSIDE also when the path starts in a fixture, or goes through one, or through a link that leads into one, to leave it again:
 * the kernel could not follow.
 */
static APART enum reach slowly(int dirfd, const char *path)
{
	char at[PATH_MAX];
	struct run_entry *e;

	if (fd_cache_behind(&path, at)) {
		if (path_table_reach(at, &e) == REACH_INSIDE)
			return REACH_INSIDE;
	} else if (!start_of(dirfd, path, at)) {
		return REACH_OUTSIDE;
	}
	if (*path != '/' && path_table_reach(at, &e) == REACH_INSIDE)
		return REACH_INSIDE;
	for (;;) {
		size_t n;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (n == 0)
			break;
		if (n == 2 && path[0] == '.' && path[1] == '.') {
			if (path_table_reach(at, &e) == REACH_INSIDE)
				return REACH_INSIDE;
			go_up(at);
		} else if (!(n == 1 && *path == '.') && (!append(at, path, n) || !path_table_alias(at, sizeof at))) {
			/* Too long for us; below a fixture it is too long for the kernel, too. */
			return path_table_reach(at, &e) == REACH_INSIDE ? REACH_INSIDE : REACH_OUTSIDE;
		} else if (links_has(at)) {
			return REACH_INSIDE;
		}
		path += n;
	}
	return !strncmp(at, "/proc/", 6) || !strncmp(at, "/dev/", 5) ? reach_of_magic(at) : path_table_reach(at, &e);
}

/* Without a look at the components: from where no fixture can be reached without going up. */
static enum reach less_quickly(int dirfd, const char *path)
{
	if (!*path || strnlen(path, PATH_MAX) == PATH_MAX)
		return REACH_OUTSIDE;
	if (*path != '/' && !links_are_there() && (dirfd == AT_FDCWD ? cwd_cache_is_outside() : fd_cache_reach(dirfd) == REACH_OUTSIDE) &&
	    !has_parent(path))
		return REACH_OUTSIDE;
	/* From inside a fixture everything is looked at, whether or not it leads out. */
	if (*path != '/' && dirfd != AT_FDCWD && fd_cache_reach(dirfd) == REACH_INSIDE)
		return REACH_INSIDE;
	return slowly(dirfd, path);
}

HOT enum reach resolve_reach(int dirfd, const char *path)
{
	const struct starts *starts = &absolute_starts;
	size_t n;

	if (!run || !path)
		return REACH_OUTSIDE;
	if (*path != '/')
		starts = likely(dirfd == AT_FDCWD) ? cwd_cache_starts() : NULL;
	if (likely(starts != NULL) && !links_are_there()) {
		n = plain_length(path);
		if (likely(n > 0) && !starts_may_match(starts, path, n))
			return REACH_OUTSIDE;
	}
	return less_quickly(dirfd, path);
}

int resolve_program(struct resolved *p, const char *path)
{
	int r = resolve_path(p, AT_FDCWD, path, USE_READ);

	return r == 1 && (p->image || resolve_is_noexec(p)) ? resolve_path(p, AT_FDCWD, path, USE_CHANGE) : r;
}

bool resolve_is_noexec(const struct resolved *p)
{
	struct statfs fs;

	/* Also what the run's own directory has for what is not copied leads there. */
	return (run->flags & RUN_TREES_NOEXEC) && p->entry && p->entry->kind == RUN_TREE && !p->image &&
	       kernel(SYS_statfs, p->path, &fs) == 0 && (fs.f_flags & ST_NOEXEC);
}

bool resolve_is_mounted(int dirfd, const char *path)
{
	const uint32_t *mounts = run ? (const uint32_t *)(const void *)((const char *)run + run->mounts) : NULL;
	char base[PATH_MAX], normal[PATH_MAX];
	bool found;

	if (!run || run->n_mounts == 0)
		return false;
	if (*path == '/')
		strcpy(base, "/");
	found = *path == '/' || (dirfd == AT_FDCWD ? cwd_cache_get(base) : fd_cache_path(dirfd, base, sizeof base));
	if (!found || !path_normalize(base, path, normal, sizeof normal) || !path_table_alias(normal, sizeof normal))
		return false;
	for (uint32_t i = 0; i < run->n_mounts; i++) {
		if (path_below(normal, run_string(mounts[i])))
			return true;
	}
	return false;
}

/* The real path of what is visible at `visible`, in an entry. */
static bool real_path(const struct run_entry *e, const char *visible, char *out, size_t room)
{
	const char *from = run_string(entry_is_private(e) || e->kind == RUN_FILE ? e->own : e->tree),
		   *rest = path_below(visible, run_string(e->path));
	size_t n = strlen(from), length = strlen(rest);

	if (n + length >= room)
		return false;
	memcpy(out, from, n);
	memcpy(out + n, rest, length + 1);
	return true;
}

/*
 * What the kernel would say before it goes on from there to "." or "..": 0 or -errno. `scratch` has PATH_MAX bytes, and then the real
 * path of what is in a fixture, otherwise none.
 */
static int check_directory(const char *visible, char *scratch)
{
	const char *path = visible;
	int saved = errno, r = 0;
	struct run_entry *e;
	struct stat st;

	*scratch = '\0';
	if (path_table_reach(visible, &e) == REACH_INSIDE) {
		if (e->kind == RUN_FILE && !entry_is_private(e))
			strcpy(scratch, run_string(run->lock)); /* a file, too */
		else if (!real_path(e, visible, scratch, PATH_MAX))
			return -ENAMETOOLONG;
		path = scratch;
	}
	if (kernel(SYS_newfstatat, AT_FDCWD, path, &st, 0) < 0)
		r = -errno;
	else if (!S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	errno = saved;
	return r;
}

/* A file's place may have been taken by a link, or by a directory. */
static bool has_links(const struct run_entry *e)
{
	return e->kind == RUN_FILE ? entry_is_private(e) : __atomic_load_n(&e->links, __ATOMIC_ACQUIRE) != 0;
}

/*
 * The target of the link that is visible there; 0: it is none that matters. Outside of fixtures the kernel follows links itself,
 * unless they lead into one, or the way goes up again behind them.
 */
static size_t read_link(const char *visible, bool outside, char *target, size_t room)
{
	struct run_entry *e;
	int saved = errno;
	long n;

	if (path_table_reach(visible, &e) == REACH_INSIDE) {
		if (!has_links(e) || !real_path(e, visible, target, room))
			return 0;
		n = kernel(SYS_readlinkat, AT_FDCWD, target, target, room - 1);
	} else {
		n = outside || links_has(visible) ? kernel(SYS_readlinkat, AT_FDCWD, visible, target, room - 1) : 0;
	}
	errno = saved;
	if (n <= 0)
		return 0;
	target[n] = '\0';
	/* A marker is no link. */
	return e && copyup_expand(e, target) ? 0 : (size_t)n;
}

struct way {
	char *out;     /* the visible path so far */
	char *scratch; /* PATH_MAX bytes */
	bool follow;   /* a link that is the last component */
	bool slash;    /* as if it had a slash behind it */
	bool last;     /* the last component stays, also "." and ".." */
	bool here;     /* it has only gone up from the working directory, which can be done also when that was removed */
	bool gone;     /* it is at a working directory that was removed: another may be at its path now */
	int links;
};

#define WALK_LEFT 1 /* to the kernel: w->scratch is the path for it */
#define WALK_NONE 2 /* it is the working directory, which was removed, and has no path */

/* It will not go on from the real path in w->scratch, and says why not, in its order, when it is given that and what is left. */
static int resolve_leave(struct way *w, const char *rest)
{
	size_t n = strlen(w->scratch);

	if (n + 1 + strlen(rest) >= PATH_MAX)
		return -ENAMETOOLONG;
	if (*rest && *rest != '/')
		w->scratch[n++] = '/';
	strcpy(w->scratch + n, rest);
	return WALK_LEFT;
}

static int resolve_walk(struct way *w, const char *path);

/* Goes on behind a link, with its target and what is left of the path. A stack frame for each: only trees with links need it. */
static __attribute__((noinline)) int walk_link(struct way *w, const char *rest)
{
	size_t n = strlen(w->scratch), length = strlen(rest);
	struct run_entry *e;
	char todo[PATH_MAX];

	if (++w->links > LINKS_MAX) {
		snprintf(w->scratch, PATH_MAX, "%s/" RUN_TABLE_LOOP, run_string(run->scratch));
		return path_table_reach(w->out, &e) == REACH_INSIDE ? resolve_leave(w, rest) : -ELOOP;
	}
	if (n + length >= sizeof todo)
		return -ENAMETOOLONG;
	memcpy(todo, w->scratch, n);
	memcpy(todo + n, rest, length + 1);
	go_up(w->out);
	if (*todo == '/')
		strcpy(w->out, "/");
	return resolve_walk(w, todo);
}

/* From the directory `out` along the path, component by component. 0, WALK_... or -errno. */
static int resolve_walk(struct way *w, const char *path)
{
	for (;;) {
		size_t n;
		int r;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		if (n == 0)
			return 0;
		if (path[0] == '.' && (n == 1 || (n == 2 && path[1] == '.'))) {
			if (w->gone && n == 1) {
				path += n;
				if (!path[strspn(path, "/")])
					return WALK_NONE;
				continue;
			}
			w->gone = false;
			r = check_directory(w->out, w->scratch);
			if (w->here && r == -ENOENT && n == 1 && !path[1 + strspn(path + 1, "/")])
				return WALK_NONE;
			if (w->here)
				r = 0;
			if (*w->scratch && (r < 0 || (w->last && !path[n + strspn(path + n, "/")])))
				return resolve_leave(w, path);
			if (r < 0)
				return r;
			if (n == 2)
				go_up(w->out);
			path += n;
			continue;
		}
		if (w->gone)
			return -ENOENT;
		w->here = false;
		if (!append(w->out, path, n) || !path_table_alias(w->out, PATH_MAX))
			return -ENAMETOOLONG;
		path += n;
		/* A slash behind the last one asks for a directory. */
		if (!*path && !w->follow)
			return 0;
		if (path[strspn(path, "/")] == '\0' && !w->follow && !w->slash)
			return 0;
		if (read_link(w->out, has_parent(path), w->scratch, PATH_MAX))
			return walk_link(w, path);
	}
}

static int fail(int err)
{
	errno = err;
	return -1;
}

/* A path by way of a descriptor becomes the visible one. */
static bool start_of_magic(const char **path, char *out)
{
	const char *rest;
	bool shared;
	int fd;

	if (!fd_cache_magic(*path, &fd, &rest) || (fd == AT_FDCWD ? !cwd_cache_get(out) : !fd_cache_entry_of(fd, out, PATH_MAX, &shared)))
		return false;
	*path = rest;
	return true;
}

APART void pass_marker(struct resolved *p)
{
	char target[PATH_MAX];

	if (p->entry->kind == RUN_TREE && entry_is_private(p->entry) && copyup_marker(p->entry, p->path, target))
		strcpy(p->path, target);
}

int resolve_path(struct resolved *p, int dirfd, const char *path, unsigned use)
{
	struct way w = { .out = p->visible,
			 .scratch = p->path,
			 .follow = !(use & (USE_NOFOLLOW | USE_LAST)),
			 .slash = !(use & USE_LAST),
			 .last = use & USE_LAST,
			 .here = *path != '/' && dirfd == AT_FDCWD,
			 .gone = *path != '/' && dirfd == AT_FDCWD && cwd_cache_is_gone() };
	unsigned what = use & USE_WHAT;
	size_t n = strlen(path);
	bool slash;
	int r;

	if (n == 0 || n >= PATH_MAX)
		return fail(n ? ENAMETOOLONG : ENOENT);
	slash = path[n - 1] == '/';
	p->relative = *path != '/' && dirfd == AT_FDCWD;
	if (*path == '/' && start_of_magic(&path, p->visible)) {
		/* The link of the kernel itself, not what it leads to. */
		if (!*path && !w.follow)
			return 0;
	} else if (!(*path == '/' && fd_cache_behind(&path, p->visible)) && !start_of(dirfd, path, p->visible)) {
		return 0;
	}
	r = resolve_walk(&w, path);
	if (r < 0)
		return fail(-r);
	if (r == WALK_NONE)
		return 0;
	p->image = false;
	if (path_table_reach(p->visible, &p->entry) == REACH_INSIDE && r == WALK_LEFT)
		return 1;
	if (!p->entry) {
		/* The way has led out of the fixture. */
		if (snprintf(p->path, sizeof p->path, "%s%s", p->visible, slash ? "/" : "") >= (int)sizeof p->path)
			return fail(ENAMETOOLONG);
		return 1;
	}
	if (p->entry->kind == RUN_FILE && !entry_is_private(p->entry) && (slash || *path_below(p->visible, run_string(p->entry->path))))
		return fail(ENOTDIR);
	if (what != USE_READ && copyup_make(p->entry, p->visible, what) < 0)
		return -1;
	if (p->entry->kind == RUN_FILE && !entry_is_private(p->entry)) {
		p->image = true;
		*p->path = '\0';
		return 1;
	}
	if (!real_path(p->entry, p->visible, p->path, sizeof p->path - 1))
		return fail(ENAMETOOLONG);
	if (what == USE_READ && !w.follow && !(use & USE_RAW))
		pass_marker(p);
	if (slash)
		stpcpy(p->path + strlen(p->path), "/");
	return 1;
}
