/* SPDX-License-Identifier: MIT */
#include "remote/prune.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "remote/hash.h"
#include "remote/signed.h"

#define PIECE_GRACE_S (24 * 3600)

struct pruning {
	time_t now;
	int64_t older_than_s;
	bool dry;
	bool namespaces, pieces;     /* there is any, even an empty one; and however old */
	dev_t device;		     /* of the directory */
	char (*used)[HASH_HEX_SIZE]; /* pieces of the manifests that stay */
	size_t n_used, room;
	struct pruned *out;
};

/* A file of that name in a directory of that one. */
static bool is_in(const FTSENT *e, const char *directory)
{
	return e->fts_info == FTS_F && e->fts_level > 0 && !strcmp(e->fts_parent->fts_name, directory) &&
	       strlen(e->fts_name) == HASH_HEX_SIZE - 1 && hash_is_valid(e->fts_name);
}

static int remove_file(struct pruning *p, const FTSENT *e)
{
	if (!p->dry && unlink(e->fts_accpath) < 0) {
		fprintf(stderr, "fixd-remote: %s cannot be removed: %s\n", e->fts_path, strerror(errno));
		return -errno;
	}
	p->out->bytes += (uint64_t)e->fts_statp->st_size;
	return 0;
}

static void note_used(struct pruning *p, const char *hash)
{
	if (p->n_used == p->room) {
		p->room = p->room ? 2 * p->room : 1024;
		p->used = xrealloc(p->used, p->room * sizeof *p->used);
	}
	memcpy(p->used[p->n_used], hash, HASH_HEX_SIZE - 1);
	p->used[p->n_used++][HASH_HEX_SIZE - 1] = '\0';
}

/* That it is read here is no use of it. */
static int read_unnoticed(const FTSENT *e, char **text)
{
	const struct timespec times[2] = { e->fts_statp->st_atim, { .tv_nsec = UTIME_OMIT } };
	int r = file_read_all(e->fts_accpath, MANIFEST_MAX, text, NULL);

	return r < 0 ? r : utimensat(AT_FDCWD, e->fts_accpath, times, 0) < 0 ? -errno : 0;
}

/* Whatever else is wrong with it: its pieces are not ours to remove. */
static int note_pieces(struct pruning *p, const FTSENT *e)
{
	_cleanup_free_ char *text = NULL;
	char *rest;
	int r = read_unnoticed(e, &text);

	if (r < 0) {
		fprintf(stderr, "fixd-remote: %s cannot be read: %s; nothing was removed\n", e->fts_path, strerror(-r));
		return r;
	}
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char hash[HASH_HEX_SIZE];

		if (sscanf(line, "chunk %64s", hash) == 1 && strlen(hash) == HASH_HEX_SIZE - 1)
			note_used(p, hash);
	}
	p->out->kept++;
	return 0;
}

/* Its last use, where the file system notes that. */
static bool is_old(const struct pruning *p, const struct stat *st)
{
	time_t used = st->st_atime > st->st_mtime ? st->st_atime : st->st_mtime;

	return p->now - used > p->older_than_s;
}

/* A namespace behind a link, or on another file system, is not looked at: its pieces would seem to be nobody's. */
static bool hides_manifests(const FTSENT *e, dev_t device)
{
	struct stat st;

	if (e->fts_info == FTS_SL || e->fts_info == FTS_SLNONE)
		return stat(e->fts_accpath, &st) == 0 && S_ISDIR(st.st_mode);
	return e->fts_info == FTS_D && e->fts_statp->st_dev != device;
}

static int keep_young(struct pruning *p, const FTSENT *e)
{
	if (e->fts_level == 0)
		p->device = e->fts_statp->st_dev;
	if (hides_manifests(e, p->device)) {
		fprintf(stderr,
			"fixd-remote: %s leads out of the directory: what is there may need pieces that are here; nothing was removed\n",
			e->fts_path);
		return -EXDEV;
	}
	p->namespaces |= e->fts_info == FTS_D && e->fts_level > 0 && !strcmp(e->fts_name, "ac");
	return is_in(e, "ac") && !is_old(p, e->fts_statp) ? note_pieces(p, e) : 0;
}

static int by_hash(const void *a, const void *b)
{
	return strcmp(a, b);
}

static bool is_used(const struct pruning *p, const FTSENT *piece)
{
	return p->now - piece->fts_statp->st_mtime <= PIECE_GRACE_S ||
	       (p->n_used && bsearch(piece->fts_name, p->used, p->n_used, sizeof *p->used, by_hash));
}

static int look_for_pieces(struct pruning *p, const FTSENT *e)
{
	p->pieces |= is_in(e, "cas");
	return 0;
}

static int remove_unused(struct pruning *p, const FTSENT *e)
{
	bool manifest = is_in(e, "ac"), piece = is_in(e, "cas");
	int r;

	if (!(manifest && is_old(p, e->fts_statp)) && !(piece && !is_used(p, e)))
		return 0;
	r = remove_file(p, e);
	if (r == 0)
		++*(manifest ? &p->out->manifests : &p->out->pieces);
	return r;
}

/* Stops at the first that is not 0. */
static int each_file(struct pruning *p, const char *directory, int (*fn)(struct pruning *p, const FTSENT *e))
{
	char *paths[] = { (char *)directory, NULL };
	FTS *tree = fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, NULL);
	int r = tree ? 0 : -errno;
	FTSENT *e;

	while (r == 0 && (errno = 0, e = fts_read(tree))) {
		if (e->fts_info != FTS_DNR && e->fts_info != FTS_ERR && e->fts_info != FTS_NS) {
			r = fn(p, e);
			continue;
		}
		r = -e->fts_errno;
		fprintf(stderr, "fixd-remote: %s cannot be read: %s\n", e->fts_path, strerror(-r));
	}
	if (r == 0 && errno)
		r = -errno;
	if (tree)
		fts_close(tree);
	return r;
}

int prune(const char *directory, int64_t older_than_s, bool dry, struct pruned *out)
{
	struct pruning p = { .now = time(NULL), .older_than_s = older_than_s, .dry = dry, .out = out };
	int r;

	*out = (struct pruned){ 0 };
	r = each_file(&p, directory, keep_young);
	if (p.n_used)
		qsort(p.used, p.n_used, sizeof *p.used, by_hash);
	if (r == 0)
		r = each_file(&p, directory, look_for_pieces);
	if (r == 0 && !p.namespaces) {
		fprintf(stderr, "fixd-remote: %s is no directory of a remote: it has %s\n", directory,
			p.pieces ? "pieces in cas, and no NAMESPACE/ac of which they are" : "neither NAMESPACE/ac nor cas with images");
		r = -ENOENT;
	}
	if (r == 0)
		r = each_file(&p, directory, remove_unused);
	free(p.used);
	return r;
}
