/* SPDX-License-Identifier: MIT */
#include "asker.h"

#include "fixd/model/image.h"

static void answered(struct waiter *w, enum outcome outcome)
{
	struct asker *a = container_of(w, struct asker, waiter);

	a->answers++;
	a->outcome = outcome;
	if (outcome == OUTCOME_READY)
		lease_new(w->instance->current, &a->leases, 1);
}

void ask(struct asker *a, struct instance *i)
{
	*a = (struct asker){ .waiter = { .asked = ++world.now, .holds = true, .answer = answered } };
	link_init(&a->waiter.link);
	link_init(&a->leases);
	waiter_begin(i, &a->waiter);
	world_turn();
}

void let_go(struct asker *a)
{
	while (!link_empty(&a->leases))
		lease_free(link_entry(a->leases.next, struct lease, in_client));
	world_turn();
}

bool is_next(enum job_kind_of what, const struct instance *i)
{
	return world.n_jobs && world.jobs[0].what == what && world.jobs[0].instance == i;
}

void finish(uint64_t as)
{
	world_finish(0, as);
	world_turn();
}
