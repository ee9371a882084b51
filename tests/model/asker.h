/* SPDX-License-Identifier: MIT */
/* A client that asks for an instance, and holds what it gets. */
#pragma once

#include "fixd/model/waiter.h"
#include "world.h"

struct asker {
	struct waiter waiter;
	int answers;
	enum outcome outcome;
	struct link leases;
};

void ask(struct asker *a, struct instance *i);
void let_go(struct asker *a);

/* The first job, which must be that one; and it ends well. */
bool is_next(enum job_kind_of what, const struct instance *i);
void finish(uint64_t as);
