/* SPDX-License-Identifier: MIT */
#include "fixd/model/pool.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"

#define RETRY_MIN (100 * NSEC_PER_MSEC)
#define RETRY_MAX (60 * NSEC_PER_SEC)

enum clone_kind pool_clone_kind(const struct instance *i)
{
	if (i->current && i->current->n_uses)
		return i->current->died ? CLONE_DEAD : CLONE_HELD;
	switch (i->state) {
	case INSTANCE_WAITING:
		/* For the end of what it was before. */
		return i->last && !i->current ? CLONE_ENDING : CLONE_STARTING;
	case INSTANCE_BUILDING:
	case INSTANCE_CHECKING:
		return CLONE_STARTING;
	case INSTANCE_READY:
		return CLONE_READY;
	default:
		/* Its last image is held still, or being torn down. */
		if (i->last)
			return i->last->ending ? CLONE_ENDING : i->last->died ? CLONE_DEAD : CLONE_HELD;
		return i->state == INSTANCE_FAILED ? CLONE_FAILED : CLONE_EMPTY;
	}
}

static struct model *pool_model(const struct pool *p)
{
	return p->front->session->model;
}

struct pool_count pool_count(const struct pool *p)
{
	struct pool_count n = { 0 };

	for (size_t k = 0; k < p->clones.n; k++) {
		enum clone_kind kind = pool_clone_kind(p->clones.all[k]);

		n.ready += kind == CLONE_READY;
		n.starting += kind == CLONE_STARTING;
		n.held += kind == CLONE_HELD;
		n.ending += kind == CLONE_ENDING;
	}
	return n;
}

void pool_lost(struct pool *p, const struct image *im)
{
	p->figures.wasted += !im->attaches;
	pool_changed(p);
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

int64_t pool_handout(const struct pool *p, double share)
{
	size_t n = p->figures.given < POOL_HANDOUTS ? p->figures.given : POOL_HANDOUTS;
	int64_t sorted[POOL_HANDOUTS];

	if (n == 0)
		return 0;
	memcpy(sorted, p->figures.handouts, n * sizeof *sorted);
	qsort(sorted, n, sizeof *sorted, by_size);
	return sorted[(size_t)(share * (double)(n - 1) + 0.5)];
}

const char *pool_state_name(const struct pool *p)
{
	struct pool_count n = pool_count(p);

	return n.ready ? "ready" : n.starting ? "building" : n.held ? "held" : p->failures ? "failed" : "absent";
}

void pool_changed(struct pool *p)
{
	loop_defer(pool_model(p)->loop, &p->serving);
}

void pool_warm(struct pool *p)
{
	if (!p->wanted)
		p->wanted = 1;
	pool_changed(p);
}

void pool_rest(struct pool *p)
{
	p->wanted = 0;
	timer_stop(&p->idle);
	/* Those that start end when they are there, and want nothing anew. */
	for (size_t k = 0; k < p->clones.n; k++)
		((struct instance *)p->clones.all[k])->eager_from = 0;
	pool_changed(p);
}

void pool_started(struct pool *p, int64_t ns)
{
	p->figures.started++;
	p->figures.starts += ns;
}

void pool_gave(struct pool *p, const struct image *im, int64_t waited)
{
	p->figures.handouts[p->figures.given++ % POOL_HANDOUTS] = waited;
	p->figures.saved += im->build_ns > waited ? im->build_ns - waited : 0;
	p->failures = 0;
	p->retry_at = 0;
	timer_start_in(pool_model(p)->loop, &p->idle, POOL_IDLE);
	pool_changed(p);
}

void pool_failed(struct pool *p, const struct instance *clone)
{
	int64_t delay = RETRY_MIN;

	for (unsigned n = 0; n < p->failures && delay < RETRY_MAX; n++)
		delay *= 2;
	p->failures++;
	p->retry_at = model_now(pool_model(p)) + (delay < RETRY_MAX ? delay : RETRY_MAX);
	log_debug("%s: the next clone is started in %lld ms", clone->title, (long long)(delay / NSEC_PER_MSEC));
	pool_changed(p);
}

void pool_add(struct pool *p, struct instance *clone)
{
	const char *number = strrchr(clone->clone, '/');
	unsigned long long n = number ? strtoull(number + 1, NULL, 10) : 0;
	struct model *m = pool_model(p);

	if (n > m->last_clone)
		m->last_clone = n;
	p->resumed |= m->loading;
	clone->clone_of = p;
	vector_add(&p->clones, clone);
	pool_changed(p);
}

void pool_remove(struct pool *p, const struct instance *clone)
{
	for (size_t k = 0; k < p->clones.n; k++) {
		if (p->clones.all[k] != clone)
			continue;
		vector_remove(&p->clones, k);
		pool_changed(p);
		return;
	}
}

struct pool *pool_free(struct pool *p)
{
	if (!p)
		return NULL;
	deferred_cancel(&p->serving);
	timer_stop(&p->retry);
	timer_stop(&p->idle);
	for (size_t k = 0; k < p->clones.n; k++)
		((struct instance *)p->clones.all[k])->clone_of = NULL;
	vector_deinit(&p->clones);
	free(p);
	return NULL;
}
