/* SPDX-License-Identifier: MIT */
#include "fixd/evict.h"

#include <errno.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/daemon.h"
#include "fixd/image.h"
#include "fixd/instance.h"
#include "fixd/keeper.h"
#include "fixd/session.h"
#include "fixd/user.h"

/* Of all sessions, or only of what clients of `u` built. */
static struct instance *least_used(struct daemon *d, const struct user *u)
{
	struct instance *best = NULL;

	link_for_each(l, &d->sessions) {
		struct instance *i = session_least_used(link_entry(l, struct session, link), u);

		if (i && (!best || i->current->used < best->current->used))
			best = i;
	}
	return best;
}

static bool evict(struct daemon *d, const struct user *u, const char *cause)
{
	struct instance *victim = least_used(d, u);

	if (!victim)
		return false;
	d->evictions++;
	instance_retire(victim, cause);
	return true;
}

/* What goes when it was torn down. */
struct ending {
	size_t descriptors;
	uint64_t bytes;
};

static struct ending count_ending(const struct daemon *d)
{
	struct ending e = { 0 };

	link_for_each(l, &d->keepers) {
		const struct keeper *k = link_entry(l, struct keeper, link);

		if (!k->ending || !k->image)
			continue;
		e.descriptors += 1 + KEEPER_DESCRIPTORS;
		e.bytes += k->image->bytes;
	}
	return e;
}

void evict_for_descriptors(struct daemon *d)
{
	while (d->n_images + KEEPER_DESCRIPTORS * d->n_keepers >= d->descriptors_max + count_ending(d).descriptors) {
		if (!evict(d, NULL, "evicted: there are too many images for the open files allowed"))
			return;
	}
}

static uint64_t unused_bytes(struct daemon *d)
{
	uint64_t bytes = 0;

	link_for_each(l, &d->sessions)
		bytes += session_unused_bytes(link_entry(l, struct session, link), NULL);
	return bytes;
}

int evict_for_memory(struct daemon *d, uint64_t more)
{
	uint64_t max = d->config->memory_max;
	bool ending;

	if (more > max)
		return -EDQUOT;
	if (d->memory_used <= max - more)
		return 0;
	/* Nothing goes in vain. */
	if (d->memory_used > max - more + count_ending(d).bytes + unused_bytes(d))
		return -EDQUOT;
	while (d->memory_used - count_ending(d).bytes > max - more) {
		if (!evict(d, NULL, "evicted: memory-max was reached"))
			break;
	}
	if (d->memory_used <= max - more)
		return 0;
	/* What was needed by what is torn down now may be given up next. */
	ending = count_ending(d).descriptors > 0;
	return ending && !d->restarting && !d->stopping ? -EAGAIN : -EDQUOT;
}

void evict_wait(struct daemon *d, struct room *r)
{
	link_insert(&d->rooms, &r->link);
}

void evict_continue(struct daemon *d)
{
	struct link waiting;

	/* Who has to wait again is not called again. */
	link_init(&waiting);
	while (!link_empty(&d->rooms)) {
		struct link *l = d->rooms.next;

		link_remove(l);
		link_insert(&waiting, l);
	}
	while (!link_empty(&waiting)) {
		struct room *r = link_entry(waiting.next, struct room, link);

		link_remove(&r->link);
		r->again(r);
	}
}

bool evict_of_user(struct user *u, const char *cause)
{
	return evict(u->daemon, u, cause);
}
