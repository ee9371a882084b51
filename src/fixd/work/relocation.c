/* SPDX-License-Identifier: MIT */
#include "fixd/work/relocation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "fixd/host/worker.h"
#include "fixd/model/account.h"
#include "fixd/model/image.h"
#include "fixd/model/reclaim.h"
#include "fixd/work/work.h"
#include "image/digest.h"

/* One that is being made. */
struct relocation {
	struct work_item item;
	struct link link; /* work::relocations */
	struct link waiters;
	struct image *image; /* a reference */
	struct digest places;
	uint64_t bytes;
	int fd;
	size_t n;
	struct move moves[];
};

static void answer_all(struct relocation *r)
{
	while (!link_empty(&r->waiters)) {
		struct relocation_waiter *w = link_entry(r->waiters.next, struct relocation_waiter, link);

		link_remove(&w->link);
		w->done(w, r->fd);
	}
}

static void relocation_make(void *arg)
{
	struct relocation *r = arg;

	r->fd = relocate_copy(r->image->fd, r->image->size, r->moves, r->n);
}

static void relocation_made(void *arg)
{
	struct relocation *r = arg;
	struct model *m = r->image->model;

	link_remove(&r->link);
	if (r->fd >= 0)
		image_add_copy(r->image, r->places, r->fd, r->bytes);
	else
		account_remove_bytes(r->image->model, r->image->user, r->bytes);
	answer_all(r);
	image_unref(r->image);
	free(r);
	/* A restart waits for it. */
	loop_defer(m->loop, &m->work->ended);
}

static struct relocation *relocation_find(struct work *w, const struct image *im, struct digest places)
{
	link_for_each(l, &w->relocations) {
		struct relocation *r = link_entry(l, struct relocation, link);

		if (r->image == im && digest_equal(r->places, places))
			return r;
	}
	return NULL;
}

static size_t relocation_count(const struct work *w, const struct image *im)
{
	size_t n = image_count_copies(im);

	link_for_each(l, &w->relocations)
		n += link_entry(l, struct relocation, link)->image == im;
	return n;
}

/* A process that is refused makes a copy of its own. */
static int relocation_begin(struct work *w, struct image *im, struct digest places, const struct move *moves, size_t n,
			    struct relocation **out)
{
	uint64_t bytes = account_pages(im->size);
	struct relocation *r;

	if (w->model->restarting)
		return -EAGAIN;
	if (relocation_count(w, im) >= IMAGE_COPIES_MAX || reclaim_memory(w->model, bytes) < 0)
		return -ENOSPC;
	reclaim_descriptors(w->model);
	account_add_bytes(w->model, im->user, bytes);
	r = xcalloc(1, sizeof *r + n * sizeof *moves);
	r->item = (struct work_item){ .work = relocation_make, .done = relocation_made, .arg = r };
	r->image = image_ref(im);
	r->places = places;
	r->bytes = bytes;
	r->n = n;
	memcpy(r->moves, moves, n * sizeof *moves);
	link_init(&r->waiters);
	link_insert(&w->relocations, &r->link);
	*out = r;
	return 0;
}

void relocation_ask(struct work *w, struct image *im, const struct move *moves, size_t n, struct relocation_waiter *waiter)
{
	struct digest places = digest_bytes(moves, n * sizeof *moves);
	int fd = image_find_copy(im, places), err = 0;
	struct relocation *r = fd < 0 ? relocation_find(w, im, places) : NULL;
	bool is_new = fd < 0 && !r;

	link_init(&waiter->link);
	if (is_new)
		err = relocation_begin(w, im, places, moves, n, &r);
	if (!r) {
		waiter->done(waiter, err < 0 ? err : fd);
		return;
	}
	link_insert(&r->waiters, &waiter->link);
	if (is_new)
		worker_add(w->worker, &r->item);
}

void relocation_forget(struct relocation_waiter *waiter)
{
	link_remove(&waiter->link);
}
