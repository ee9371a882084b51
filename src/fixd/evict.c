/* SPDX-License-Identifier: MIT */
#include "fixd/evict.h"

#include <errno.h>

#include "base/log.h"
#include "config/config.h"
#include "fixd/daemon.h"
#include "fixd/instance.h"
#include "fixd/session.h"

void evict_for_descriptors(struct daemon *d)
{
	while (d->n_images >= d->images_max) {
		struct instance *victim = session_least_used(d->session);

		if (!victim)
			return;
		d->evictions++;
		instance_retire(victim, "evicted: there are too many images for the open files allowed");
	}
}

int evict_for_memory(struct daemon *d, uint64_t more)
{
	uint64_t max = d->config->memory_max;

	if (more > max)
		return -EDQUOT;
	while (d->memory_used > max - more) {
		struct instance *victim = session_least_used(d->session);

		if (!victim)
			return -EDQUOT;
		d->evictions++;
		log_info("evicting %s: memory-max is reached", victim->title);
		instance_retire(victim, "evicted: memory-max was reached");
	}
	return 0;
}
