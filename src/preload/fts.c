/* SPDX-License-Identifier: MIT */
/*
 * Walking trees: ftw(), nftw() and the fts_ functions, whose inner calls never leave libc. For a walk that meets no fixture the
 * real ones are used.
 */
#include "preload/shim.h"

#include <dirent.h>
#include <fts.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The names in a directory, so that few descriptors are open at a time. NULL and errno. */
static char **read_names(const char *path, bool dots)
{
	DIR *dir = SEEN(opendir)(path);
	char **names = dir ? calloc(1, sizeof *names) : NULL;
	struct dirent *d;
	size_t n = 0;

	while (names && (d = SEEN(readdir)(dir))) {
		char **more;

		if (!dots && (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..")))
			continue;
		more = realloc(names, (n + 2) * sizeof *names);
		if (!more)
			break;
		names = more;
		names[n] = strdup(d->d_name);
		names[++n] = NULL;
	}
	if (dir)
		SEEN(closedir)(dir);
	return names;
}

static void fts_free_names(char **names)
{
	for (char **p = names; p && *p; p++)
		free(*p);
	free(names);
}

/* ftw() and nftw(). */

typedef int (*old_visitor)(const char *, const struct stat *, int);
typedef int (*visitor)(const char *, const struct stat *, int, struct FTW *);

struct above {
	const struct above *parent;
	dev_t dev;
	ino_t ino;
};

struct ftw_walk {
	old_visitor old; /* or */
	visitor visit;
	int flags;
	dev_t dev; /* of the root */
	char path[PATH_MAX];
	struct FTW at;
};

static int visit(struct ftw_walk *w, const struct stat *st, int type)
{
	if (!w->old)
		return w->visit(w->path, st, type, &w->at);
	/* ftw() knows fewer kinds. */
	return w->old(w->path, st, type == FTW_SLN ? FTW_NS : type);
}

static bool is_above(const struct above *a, const struct stat *st)
{
	for (; a; a = a->parent) {
		if (a->dev == st->st_dev && a->ino == st->st_ino)
			return true;
	}
	return false;
}

static int visit_any(struct ftw_walk *w, const struct above *above);

/* With FTW_CHDIR the directory above is the working directory. */
static const char *access_path(const struct ftw_walk *w, const struct above *above)
{
	(void)above;
	return w->flags & FTW_CHDIR ? w->path + w->at.base : w->path;
}

/* A callback may say with FTW_ACTIONRETVAL to leave out the rest of a directory. */
static bool leaves_siblings(const struct ftw_walk *w, int r)
{
	return (w->flags & FTW_ACTIONRETVAL) && r == FTW_SKIP_SIBLINGS;
}

static int visit_names(struct ftw_walk *w, char **names, const struct above *above)
{
	size_t n = strlen(w->path);
	int base = w->at.base, r = 0;

	for (char **name = names; r == 0 && *name; name++) {
		bool slash = n > 0 && w->path[n - 1] == '/';

		if (n + 1 + strlen(*name) >= sizeof w->path) {
			errno = ENAMETOOLONG;
			return -1;
		}
		w->at.base = (int)(n + !slash);
		w->at.level++;
		if (!slash)
			w->path[n] = '/';
		strcpy(w->path + n + !slash, *name);
		r = visit_any(w, above);
		w->at.level--;
		w->path[n] = '\0';
		w->at.base = base;
		if (leaves_siblings(w, r))
			return 0;
	}
	return r;
}

static int visit_directory(struct ftw_walk *w, const struct stat *st, const struct above *above)
{
	const struct above here = { above, st->st_dev, st->st_ino };
	char **names = read_names(access_path(w, above), false);
	int r = 0;

	if (!names)
		return errno == EACCES ? visit(w, st, FTW_DNR) : -1;
	if (!(w->flags & FTW_DEPTH))
		r = visit(w, st, FTW_D);
	if ((w->flags & FTW_ACTIONRETVAL) && r == FTW_SKIP_SUBTREE) {
		fts_free_names(names);
		return 0;
	}
	if (r == 0 && (w->flags & FTW_CHDIR) && SEEN(chdir)(access_path(w, above)) < 0)
		r = -1;
	if (r == 0)
		r = visit_names(w, names, &here);
	fts_free_names(names);
	if (r == 0 && (w->flags & FTW_CHDIR) && SEEN(chdir)("..") < 0)
		r = -1;
	if (r == 0 && (w->flags & FTW_DEPTH))
		r = visit(w, st, FTW_DP);
	return r;
}

static int visit_any(struct ftw_walk *w, const struct above *above)
{
	const char *path = access_path(w, above);
	struct stat st = { 0 };
	bool physical = w->flags & FTW_PHYS;
	int r = physical ? SEEN(lstat)(path, &st) : SEEN(stat)(path, &st);

	if (r < 0 && errno != ENOENT && (errno != EACCES || !above))
		return -1;
	if (r < 0 && !physical && SEEN(lstat)(path, &st) == 0 && S_ISLNK(st.st_mode))
		return visit(w, &st, FTW_SLN);
	if (r < 0)
		return above ? visit(w, &st, FTW_NS) : -1;
	if (!above)
		w->dev = st.st_dev;
	if ((w->flags & FTW_MOUNT) && st.st_dev != w->dev)
		return 0;
	if (S_ISDIR(st.st_mode))
		return is_above(above, &st) ? 0 : visit_directory(w, &st, above);
	return visit(w, &st, S_ISLNK(st.st_mode) ? FTW_SL : FTW_F);
}

static int walk(struct ftw_walk *w, const char *path)
{
	char here[PATH_MAX];
	int r, err;

	if (strlen(path) >= sizeof w->path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(w->path, path);
	for (size_t n = strlen(w->path); n > 1 && w->path[n - 1] == '/'; n--)
		w->path[n - 1] = '\0';
	w->at.base = (int)(strrchr(w->path, '/') ? strrchr(w->path, '/') + 1 - w->path : 0);
	if ((w->flags & FTW_CHDIR) && !SEEN(getcwd)(here, sizeof here))
		return -1;
	/* The root, too, is visited from the directory that it is in. */
	if ((w->flags & FTW_CHDIR) && w->at.base > 0) {
		char above[PATH_MAX];

		snprintf(above, sizeof above, "%.*s", w->at.base, w->path);
		if (SEEN(chdir)(above) < 0)
			return -1;
	}
	r = visit_any(w, NULL);
	err = errno;
	if ((w->flags & FTW_CHDIR) && SEEN(chdir)(here) < 0 && r == 0)
		return -1;
	errno = err;
	return (w->flags & FTW_ACTIONRETVAL) && (r == FTW_SKIP_SUBTREE || r == FTW_SKIP_SIBLINGS) ? 0 : r;
}

SHIM int ftw(const char *path, old_visitor fn, int fds)
{
	struct ftw_walk w = { .old = fn };

	return resolve_reach(AT_FDCWD, path) == REACH_OUTSIDE ? REAL(ftw)(path, fn, fds) : walk(&w, path);
}
SHIM_ALIAS(ftw64, ftw);

SHIM int nftw(const char *path, visitor fn, int fds, int flags)
{
	struct ftw_walk w = { .visit = fn, .flags = flags };

	/* libc's would change the working directory behind our back. */
	if (!run || (resolve_reach(AT_FDCWD, path) == REACH_OUTSIDE && !(flags & FTW_CHDIR)))
		return REAL(nftw)(path, fn, fds, flags);
	return walk(&w, path);
}
SHIM_ALIAS(nftw64, nftw);

/*
 * fts: a walk that hands out one entry at a time. Ours never changes the working directory (as with FTS_NOCHDIR, which programs
 * must be prepared for), and an FTS of ours is told from libc's by its address.
 */

typedef int (*fts_order)(const FTSENT **, const FTSENT **);

struct fts_walk {
	FTS public;
	struct fts_walk *next;
	fts_order order;
	FTSENT *ready;	  /* what comes next, by fts_link */
	FTSENT *children; /* of fts_children(), not yet entered */
	bool begun;
};

static struct fts_walk *fts_walks;

static struct fts_walk *ours(FTS *f)
{
	struct fts_walk *w;

	if (!__atomic_load_n(&fts_walks, __ATOMIC_RELAXED))
		return NULL;
	lists_take();
	for (w = fts_walks; w && &w->public != f; w = w->next)
		;
	lists_leave();
	return w;
}

static unsigned short kind_of(struct fts_walk *w, FTSENT *e, bool follow)
{
	struct stat *st = e->fts_statp;

	if (follow ? SEEN(stat)(e->fts_path, st) < 0 : SEEN(lstat)(e->fts_path, st) < 0) {
		e->fts_errno = errno;
		if (follow && SEEN(lstat)(e->fts_path, st) == 0)
			return FTS_SLNONE;
		memset(st, 0, sizeof *st);
		return FTS_NS;
	}
	e->fts_ino = st->st_ino;
	e->fts_dev = st->st_dev;
	e->fts_nlink = st->st_nlink;
	if (S_ISLNK(st->st_mode))
		return FTS_SL;
	if (!S_ISDIR(st->st_mode))
		return S_ISREG(st->st_mode) ? FTS_F : FTS_DEFAULT;
	if (e->fts_level > FTS_ROOTLEVEL && (!strcmp(e->fts_name, ".") || !strcmp(e->fts_name, "..")))
		return FTS_DOT;
	for (FTSENT *up = e->fts_parent; up && up->fts_level >= FTS_ROOTLEVEL; up = up->fts_parent) {
		if (up->fts_dev == st->st_dev && up->fts_ino == st->st_ino) {
			e->fts_cycle = up;
			return FTS_DC;
		}
	}
	if (e->fts_level == FTS_ROOTLEVEL)
		w->public.fts_dev = st->st_dev;
	return FTS_D;
}

static bool follows(const struct fts_walk *w, const FTSENT *e)
{
	return (w->public.fts_options & FTS_LOGICAL) || ((w->public.fts_options & FTS_COMFOLLOW) && e->fts_level == FTS_ROOTLEVEL);
}

static FTSENT *new_entry(struct fts_walk *w, FTSENT *parent, const char *name)
{
	size_t n = strlen(name), above = parent && parent->fts_level >= FTS_ROOTLEVEL ? parent->fts_pathlen : 0;
	bool slash = above && parent->fts_path[above - 1] != '/';
	/* The name lies at the end of the structure; the status and the path behind it. */
	size_t size = (sizeof(FTSENT) + n + 1 + 15) / 16 * 16;
	FTSENT *e = calloc(1, size + sizeof(struct stat) + above + n + 2);

	if (!e)
		return NULL;
	e->fts_statp = (struct stat *)(void *)((char *)e + size);
	e->fts_path = (char *)(e->fts_statp + 1);
	memcpy(e->fts_name, name, n + 1);
	e->fts_namelen = (unsigned short)n;
	if (above)
		memcpy(e->fts_path, parent->fts_path, above);
	if (slash)
		e->fts_path[above] = '/';
	memcpy(e->fts_path + above + slash, name, n + 1);
	e->fts_pathlen = (unsigned short)(above + slash + n);
	e->fts_accpath = e->fts_path;
	e->fts_parent = parent;
	e->fts_level = (short)(parent ? parent->fts_level + 1 : FTS_ROOTLEVEL);
	e->fts_instr = 3; /* FTS_NOINSTR of libc */
	e->fts_info = kind_of(w, e, follows(w, e));
	return e;
}

static int compare_entries(const void *a, const void *b, void *order)
{
	return (*(fts_order *)order)((const FTSENT **)a, (const FTSENT **)b);
}

static FTSENT *sorted(struct fts_walk *w, FTSENT *list)
{
	FTSENT **all = NULL;
	size_t n = 0;

	for (FTSENT *e = list; e; e = e->fts_link)
		n++;
	if (!w->order || n < 2 || !(all = calloc(n, sizeof *all)))
		return list;
	n = 0;
	for (FTSENT *e = list; e; e = e->fts_link)
		all[n++] = e;
	qsort_r(all, n, sizeof *all, compare_entries, &w->order);
	for (size_t i = 0; i < n; i++)
		all[i]->fts_link = i + 1 < n ? all[i + 1] : NULL;
	list = all[0];
	free(all);
	return list;
}

static void free_entries(FTSENT *e)
{
	while (e) {
		FTSENT *next = e->fts_link;

		free(e);
		e = next;
	}
}

/* NULL: there are none, or fts_errno of the directory says why not. */
static FTSENT *list_children(struct fts_walk *w, FTSENT *parent)
{
	FTSENT *list = NULL, **end = &list;
	char **names = read_names(parent->fts_path, w->public.fts_options & FTS_SEEDOT);

	if (!names) {
		parent->fts_errno = errno;
		parent->fts_info = FTS_DNR;
		return NULL;
	}
	for (char **name = names; *name; name++) {
		*end = new_entry(w, parent, *name);
		if (!*end)
			break;
		end = &(*end)->fts_link;
	}
	fts_free_names(names);
	return sorted(w, list);
}

SHIM FTS *fts_open(char *const *paths, int options, fts_order order)
{
	bool far = true;
	struct fts_walk *w;
	FTSENT **end;

	for (size_t i = 0; paths[i]; i++)
		far &= resolve_reach(AT_FDCWD, paths[i]) == REACH_OUTSIDE;
	if (far)
		return REAL(fts_open)(paths, run ? options | FTS_NOCHDIR : options, order);
	w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->public.fts_options = options;
	w->order = order;
	end = &w->ready;
	for (size_t i = 0; paths[i]; i++) {
		char *last;

		*end = new_entry(w, NULL, paths[i]);
		if (!*end)
			break;
		/* Of a root the name is its last component. */
		last = strrchr((*end)->fts_path, '/');
		if (last && last[1]) {
			(*end)->fts_namelen = (unsigned short)strlen(last + 1);
			memmove((*end)->fts_name, last + 1, (*end)->fts_namelen + 1u);
		}
		end = &(*end)->fts_link;
	}
	w->ready = sorted(w, w->ready);
	lists_take();
	w->next = fts_walks;
	fts_walks = w;
	lists_leave();
	return &w->public;
}
SHIM_ALIAS(fts64_open, fts_open);

/* After an entry: the rest of its directory, then the directory itself once more. */
static FTSENT *fts_leave(struct fts_walk *w, FTSENT *e)
{
	FTSENT *parent = e->fts_parent, *next = e->fts_link;

	free(e);
	if (next)
		return next;
	if (!parent) {
		w->ready = NULL;
		return NULL;
	}
	parent->fts_info = parent->fts_errno ? FTS_ERR : FTS_DP;
	return parent;
}

static FTSENT *enter(struct fts_walk *w, FTSENT *e)
{
	FTSENT *child = w->children ? w->children : list_children(w, e);

	w->children = NULL;
	if (child)
		return child;
	if (e->fts_info != FTS_DNR)
		e->fts_info = FTS_DP;
	return e;
}

static FTSENT *following(struct fts_walk *w)
{
	FTSENT *e = w->public.fts_cur;
	unsigned short order = e ? e->fts_instr : 0;

	if (!w->begun) {
		w->begun = true;
		return w->ready;
	}
	if (!e)
		return NULL;
	e->fts_instr = 3;
	if (order == FTS_AGAIN) {
		e->fts_info = kind_of(w, e, follows(w, e));
		return e;
	}
	if (order == FTS_FOLLOW && (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)) {
		e->fts_info = kind_of(w, e, true);
		return e;
	}
	if (e->fts_info == FTS_D) {
		if (order == FTS_SKIP || ((w->public.fts_options & FTS_XDEV) && e->fts_dev != w->public.fts_dev)) {
			free_entries(w->children);
			w->children = NULL;
			e->fts_info = FTS_DP;
			return e;
		}
		return enter(w, e);
	}
	return fts_leave(w, e);
}

SHIM FTSENT *fts_read(FTS *f)
{
	struct fts_walk *w = ours(f);
	FTSENT *e;

	if (!w)
		return REAL(fts_read)(f);
	e = following(w);
	/* What fts_set() says of an entry before it is handed out. */
	while (e && e->fts_instr == FTS_SKIP && e->fts_info != FTS_D)
		e = fts_leave(w, e);
	w->public.fts_cur = e;
	if (!e)
		errno = 0;
	return e;
}
SHIM_ALIAS(fts64_read, fts_read);

SHIM FTSENT *fts_children(FTS *f, int options)
{
	struct fts_walk *w = ours(f);
	FTSENT *e;

	if (!w)
		return REAL(fts_children)(f, options);
	errno = 0;
	if (!w->begun)
		return w->ready;
	e = w->public.fts_cur;
	if (!e || e->fts_info != FTS_D)
		return NULL;
	free_entries(w->children);
	w->children = list_children(w, e);
	if (!w->children && e->fts_info == FTS_DNR)
		errno = e->fts_errno;
	return w->children;
}
SHIM_ALIAS(fts64_children, fts_children);

SHIM int fts_set(FTS *f, FTSENT *e, int instruction)
{
	if (!ours(f))
		return REAL(fts_set)(f, e, instruction);
	if (instruction && instruction != FTS_AGAIN && instruction != FTS_FOLLOW && instruction != FTS_SKIP) {
		errno = EINVAL;
		return 1;
	}
	e->fts_instr = (unsigned short)instruction;
	return 0;
}
SHIM_ALIAS(fts64_set, fts_set);

SHIM int fts_close(FTS *f)
{
	struct fts_walk *w = ours(f), **p;
	FTSENT *e;

	if (!w)
		return REAL(fts_close)(f);
	lists_take();
	for (p = &fts_walks; *p != w; p = &(*p)->next)
		;
	*p = w->next;
	lists_leave();
	free_entries(w->children);
	for (e = w->begun ? w->public.fts_cur : w->ready; e;)
		e = fts_leave(w, e);
	free(w);
	return 0;
}
SHIM_ALIAS(fts64_close, fts_close);
