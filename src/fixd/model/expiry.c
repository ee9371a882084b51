/* SPDX-License-Identifier: MIT */
/* The age of an image: when it is looked at again, and what follows. */
#include "base/clock.h"
#include "config/config.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/policy.h"
#include "fixd/model/pool.h"

#define EXPIRE_AGAIN (100 * NSEC_PER_MSEC)

static void instance_expire(void *arg)
{
	struct instance *i = arg;
	_cleanup_free_ char *cause = policy_too_old(i);

	if (!cause) {
		instance_rearm_expiry(i);
		return;
	}
	/* Something is being built with it, or it is being looked at: later. */
	if (i->state != INSTANCE_READY || i->current->n_pins) {
		timer_start_in(instance_model(i)->loop, &i->expiry, EXPIRE_AGAIN);
		return;
	}
	/* Nobody has asked for one for as long as that: what it is made from is not built again just to have a spare one. */
	if (i->clone_of && !i->current->n_uses && i->fixture->policy.rebuild != REBUILD_EAGER)
		pool_rest(i->clone_of);
	instance_refuse(i, cause);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		instance_warm(i);
}

void instance_init_timers(struct instance *i)
{
	timer_init(&i->expiry, instance_expire, i);
	timer_init(&i->restart, instance_start_again, i);
}
