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

void evict_for_descriptors(struct daemon *d)
{
	while (d->n_images + KEEPER_DESCRIPTORS * d->n_keepers >= d->descriptors_max) {
		if (!evict(d, NULL, "evicted: there are too many images for the open files allowed"))
			return;
	}
}

int evict_for_memory(struct daemon *d, uint64_t more)
{
	uint64_t max = d->config->memory_max;

	if (more > max)
		return -EDQUOT;
	while (d->memory_used > max - more) {
		if (!evict(d, NULL, "evicted: memory-max was reached"))
			return -EDQUOT;
	}
	return 0;
}

bool evict_of_user(struct user *u, const char *cause)
{
	return evict(u->daemon, u, cause);
}
