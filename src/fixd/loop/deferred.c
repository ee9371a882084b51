/* SPDX-License-Identifier: MIT */
#include "fixd/loop/deferred.h"

#include "fixd/loop/backend.h"

void deferred_init(struct deferred *f, void (*fn)(void *arg), void *arg)
{
	link_init(&f->link);
	f->fn = fn;
	f->arg = arg;
}

void loop_defer(struct loop *l, struct deferred *f)
{
	if (link_empty(&f->link))
		link_insert(&l->deferred, &f->link);
}

void deferred_cancel(struct deferred *f)
{
	link_remove(&f->link);
}

void deferred_flush(struct deferred *f)
{
	if (link_empty(&f->link))
		return;
	link_remove(&f->link);
	f->fn(f->arg);
}

void deferred_run(struct loop *l)
{
	struct link now;

	if (link_empty(&l->deferred))
		return;
	link_init(&now);
	link_insert(&l->deferred, &now);
	link_remove(&l->deferred);
	while (!link_empty(&now))
		deferred_flush(link_entry(now.next, struct deferred, link));
}
