/* SPDX-License-Identifier: MIT */
#include "fixd/model/reclaim.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/vector.h"
#include "config/config.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"

/* Is it held by nothing but the table? */
static bool may_go(const struct image *im, const struct session *s)
{
	return im->refs == 1 && im->instance->state != INSTANCE_CHECKING && (!s || im->instance->session == s);
}

/* The first of a list that may go; with `s`, of that session. */
static struct image *first_of(const struct link *unused, const struct session *s)
{
	link_for_each(l, unused) {
		struct image *im = link_entry(l, struct image, in_unused);

		if (may_go(im, s))
			return im;
	}
	return NULL;
}

/* The first of a user's, without those that would go on to be orphans, which count as much. */
static struct image *first_of_user(const struct user *u)
{
	link_for_each(l, &u->unused) {
		struct image *im = link_entry(l, struct image, in_unused);

		if (may_go(im, NULL) && (im->note_fd < 0 || im->torn_down))
			return im;
	}
	return NULL;
}

/* The least recently used of all. */
static struct image *first_of_all(const struct model *m, const struct session *s)
{
	struct image *best = first_of(&m->unused, s);

	link_for_each(l, &m->users) {
		struct image *im = first_of(&link_entry(l, struct user, link)->unused, s);

		if (im && (!best || im->used < best->used))
			best = im;
	}
	return best;
}

static bool reclaim_give_up(struct model *m, const struct image *victim, const char *cause)
{
	if (!victim)
		return false;
	m->evictions++;
	if (victim->instance->clone_of)
		pool_rest(victim->instance->clone_of);
	instance_retire(victim->instance, cause);
	return true;
}

void reclaim_descriptors(struct model *m)
{
	while (account_descriptors(m) >= m->descriptors_max) {
		if (!reclaim_give_up(m, first_of_all(m, NULL), "evicted: there are too many images for the open files allowed"))
			return;
	}
}

int reclaim_memory(struct model *m, uint64_t more)
{
	uint64_t max = m->config->memory_max;

	if (more > max)
		return -EDQUOT;
	if (m->account.bytes <= max - more)
		return 0;
	/* Nothing goes in vain. */
	if (account_lasting_bytes(m) > max - more + m->unused_bytes)
		return -EDQUOT;
	while (account_lasting_bytes(m) > max - more) {
		if (!reclaim_give_up(m, first_of_all(m, NULL), "evicted: memory-max was reached"))
			break;
	}
	if (m->account.bytes <= max - more)
		return 0;
	/* What was needed by what is torn down now may be given up next. */
	return m->account.n_ending > 0 && !m->restarting && !m->stopping ? -EAGAIN : -EDQUOT;
}

void reclaim_wait(struct model *m, struct mem_waiter *r)
{
	link_insert(&m->mem_waiters, &r->link);
}

void reclaim_wake(struct model *m)
{
	struct link waiting;

	/* Who has to wait again is not called again. */
	link_init(&waiting);
	while (!link_empty(&m->mem_waiters)) {
		struct link *l = m->mem_waiters.next;

		link_remove(l);
		link_insert(&waiting, l);
	}
	while (!link_empty(&waiting)) {
		struct mem_waiter *r = link_entry(waiting.next, struct mem_waiter, link);

		link_remove(&r->link);
		r->again(r);
	}
}

static bool give_up_of_user(struct user *u, const char *cause)
{
	return reclaim_give_up(u->model, first_of_user(u), cause);
}

char *reclaim_for_user(struct user *u, uint64_t bytes)
{
	const struct config *c = u->model->config;

	if (!u->limited)
		return NULL;
	while (u->n_images >= c->user_images_max) {
		if (!give_up_of_user(u, "evicted: user-images-max was reached"))
			return user_refusal(u, "images in use", "user-images-max", c->user_images_max);
	}
	while (c->user_memory_max != SIZE_NONE && (bytes > c->user_memory_max || u->bytes > c->user_memory_max - bytes)) {
		if (bytes > c->user_memory_max || !give_up_of_user(u, "evicted: user-memory-max was reached"))
			return user_refusal(u, "bytes in images", "user-memory-max", u->bytes);
	}
	return NULL;
}

bool reclaim_of_session(struct session *s, const char *cause)
{
	return reclaim_give_up(s->model, first_of_all(s->model, s), cause);
}

static int by_use(const void *a, const void *b)
{
	const struct image *x = *(struct image *const *)a, *y = *(struct image *const *)b;

	return x->used < y->used ? -1 : x->used > y->used;
}

static void reclaim_sort_list(struct link *unused)
{
	_cleanup_vector_ struct vector all = { 0 };

	while (!link_empty(unused)) {
		struct image *im = link_entry(unused->next, struct image, in_unused);

		link_remove(&im->in_unused);
		vector_add(&all, im);
	}
	if (all.n)
		qsort(all.all, all.n, sizeof *all.all, by_use);
	for (size_t k = 0; k < all.n; k++)
		link_insert(unused, &((struct image *)all.all[k])->in_unused);
}

void reclaim_sort(struct model *m)
{
	reclaim_sort_list(&m->unused);
	link_for_each(l, &m->users)
		reclaim_sort_list(&link_entry(l, struct user, link)->unused);
}
