/* SPDX-License-Identifier: MIT */
#include "builder/pack_objects.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "builder/work.h"
#include "image/audit.h"
#include "image/memfd.h"
#include "image/relocate.h"
#include "wire/carry.h"

int pack_objects_head(const struct work *w)
{
	struct carried c = { .address = w->job.address, .size = w->space.used, .root = w->root, .n = w->job.n_dependencies };
	char head[CARRY_SIZE];

	for (size_t i = 0; i < c.n; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];

		c.images[i] = (struct carried_image){ d->address, d->size, d->digest };
	}
	carry_write(&c, head);
	return memfd_from_bytes("fixd:head", head, sizeof head);
}

/* Each image that they pointed into is one of ours; of those that are the same, in the same order. */
static int find_moves(const struct work *w, const struct carried *c, struct move *moves)
{
	bool taken[WIRE_FDS_MAX] = { false };

	if (c->n != w->job.n_dependencies)
		return -ESTALE;
	for (size_t i = 0; i < c->n; i++) {
		const struct job_dependency *d = w->job.dependencies;
		size_t k = 0;

		while (k < c->n && (taken[k] || d[k].size != c->images[i].size || !digest_equal(d[k].digest, c->images[i].digest)))
			k++;
		if (k == c->n)
			return -ESTALE;
		taken[k] = true;
		moves[i] = (struct move){ c->images[i].address, d[k].size, d[k].address };
	}
	moves[c->n] = (struct move){ c->address, c->size, w->job.address };
	return 0;
}

static bool is_elsewhere(const struct move *moves, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (moves[i].size && moves[i].from != moves[i].to)
			return true;
	}
	return false;
}

/* The digest of the objects: as if they had been built here. */
static int digest_objects(struct work *w)
{
	struct audit_range deps[WIRE_FDS_MAX];
	const struct audit a = {
		.base = w->space.base, .size = w->space.used, .root = w->root, .dependencies = deps, .n_dependencies = w->job.n_dependencies
	};

	for (size_t i = 0; i < a.n_dependencies; i++)
		deps[i] = (struct audit_range){ w->job.dependencies[i].address,
						w->job.dependencies[i].address + w->job.dependencies[i].size };
	return (int)audit_run(&a, 0, &w->digest);
}

static int take(struct work *w, int from, uint64_t size, pid_t pid)
{
	struct move moves[WIRE_FDS_MAX + 1];
	char head[CARRY_SIZE];
	struct carried c;
	int r = size < sizeof head ? -EBADMSG : fd_read_all(from, head, sizeof head);

	if (r == 0)
		r = carry_read(head, &c);
	if (r == 0 && c.size != size - sizeof head)
		r = -EBADMSG;
	if (r == 0)
		r = find_moves(w, &c, moves);
	if (r < 0)
		return r;
	space_expect(&w->space, c.size);
	r = work_fill(w, from, true, pid);
	if (r == 0 && w->space.used != c.size)
		r = -EBADMSG;
	if (r < 0)
		return r;
	if (is_elsewhere(moves, c.n + 1))
		relocate_words(w->space.base, c.size, moves, c.n + 1);
	w->root = c.root;
	return digest_objects(w);
}

int pack_take_objects(struct work *w, int from, uint64_t size, pid_t pid)
{
	int r = take(w, from, size, pid);

	if (r == -EBADMSG || r == -ESTALE)
		fprintf(stderr, "fixd-builder: the objects of '%s' are not taken from the remote: %s\n", w->job.name,
			r == -ESTALE ? "they point into other images than those that are here" : "they are not what they say");
	return r < 0 ? work_fail(w, r, "its objects cannot be taken from the remote") : 0;
}
