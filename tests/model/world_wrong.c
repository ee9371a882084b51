/* SPDX-License-Identifier: MIT */
/* What is always true of a world. */
#include <stdio.h>

#include "base/link.h"
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/model.h"
#include "fixd/model/pool.h"
#include "fixd/model/session.h"
#include "world.h"

struct looking {
	char sentence[300];
	uint64_t unused_bytes;
};

static const struct world_job *job_of(const struct instance *i)
{
	for (size_t k = 0; k < world.n_jobs; k++) {
		if (world.jobs[k].instance == i)
			return &world.jobs[k];
	}
	return NULL;
}

static size_t count(const struct link *head)
{
	size_t n = 0;

	link_for_each(l, head)
		n++;
	return n;
}

static uint64_t shown(uint32_t slot)
{
	return slot == BOARD_NO_SLOT ? 0 : world.board[slot];
}

static const char *wrong_with_image(const struct image *im)
{
	bool unused = !im->n_uses && !im->n_pins;

	if (shown(im->board_slot) != im->board_value)
		return "it is current, and the board does not show it";
	if (unused == link_empty(&im->in_unused))
		return unused ? "its image is unused, and is not in the list of those"
			      : "its image is in use, and in the list of those that are not";
	if (count(&im->leases) != im->n_leases || im->n_uses < im->n_leases)
		return "its leases are miscounted";
	return NULL;
}

/* One that is ready was made from what its dependencies are, as long as those are ready, too. */
static const char *wrong_with_dependencies(const struct instance *i)
{
	for (size_t k = 0; i->state == INSTANCE_READY && k < i->current->n_teardown_deps; k++) {
		const struct image *need = i->current->teardown_deps[k];

		if (!need->instance || need->instance->current != need)
			return "it is ready, and what it was made with the help of is not current";
	}
	for (size_t k = 0; k < i->n_edges; k++) {
		const struct instance *dep = i->edges[k].to;

		if (i->state == INSTANCE_READY && dep && dep->state == INSTANCE_READY && !image_built_with(i->current, k, dep->current))
			return "it is ready, and made from an earlier image of a dependency";
		if (i->state == INSTANCE_BUILDING && !i->pins[k]->n_pins)
			return "it is built with an image that may be given up";
	}
	return NULL;
}

/* A clone that its holder has, though nobody else gets it any more. */
static bool is_somebodys(const struct instance *i)
{
	const struct image *im = i->last;

	return i->clone && im && (im->n_uses || im->n_teardown_dependents) && !image_has_died(im) &&
	       shown(i->board_slot) == im->board_value;
}

static const char *wrong_with(const struct instance *i)
{
	const struct world_job *j = job_of(i);
	bool works = j && (j->what == JOB_OF_BUILD || j->what == JOB_OF_OFFER), checks = j && j->what == JOB_OF_CHECK;

	if ((i->state == INSTANCE_BUILDING) != works || (i->state == INSTANCE_CHECKING) != checks)
		return "its state is not what is done with it";
	if (i->state == INSTANCE_READY && !i->current)
		return "it is ready without an image";
	if (i->pool && i->n_waiters > pool_count(i->pool).starting && pool_count(i->pool).ready)
		return "somebody waits for a clone, and one is ready";
	if (count(&i->waiters) != i->n_waiters)
		return "its waiters are miscounted";
	if (!i->current && shown(i->board_slot) && !is_somebodys(i))
		return "the board shows an image, and there is none";
	if (i->current && wrong_with_image(i->current))
		return wrong_with_image(i->current);
	return i->fixture->source == SOURCE_CLIENT ? NULL : wrong_with_dependencies(i);
}

static void look_at(struct instance *i, void *arg)
{
	struct looking *l = arg;
	const char *what = wrong_with(i);

	if (i->current && !link_empty(&i->current->in_unused))
		l->unused_bytes += i->current->bytes;
	if (what)
		snprintf(l->sentence, sizeof l->sentence, "%s (%s): %s", i->title, instance_state_name(i), what);
}

size_t world_orphans(void)
{
	size_t n = 0;

	link_for_each(l, &world.model->sessions)
		n += link_entry(l, struct session, link)->n_orphans;
	return n;
}

const char *world_wrong(void)
{
	static struct looking l;

	l = (struct looking){ 0 };
	link_for_each(s, &world.model->sessions)
		session_each(link_entry(s, struct session, link), look_at, &l);
	if (*l.sentence)
		return l.sentence;
	if (l.unused_bytes != world.model->unused_bytes)
		return "the bytes of unused images are miscounted";
	if (world.model->account.bytes != world.model->account.n_images * WORLD_IMAGE_BYTES)
		return "the bytes of images are miscounted";
	return NULL;
}
