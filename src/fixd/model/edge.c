/* SPDX-License-Identifier: MIT */
#include "fixd/model/edge.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "config/config.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"

struct instance *edge_to(const struct instance *i, size_t k)
{
	return i->edges ? i->edges[k].to : NULL;
}

const char *edge_clone(const struct instance *from, const struct fixture *to)
{
	return to->clones ? from->clone : NULL;
}

size_t edge_index(const struct edge *e)
{
	return (size_t)(e - e->from->edges);
}

void edge_set(struct instance *from, size_t k, struct instance *to)
{
	struct edge *e;

	if (!from->edges) {
		from->n_edges = from->fixture->n_depends;
		from->edges = xcalloc(from->n_edges, sizeof *from->edges);
		for (size_t n = 0; n < from->n_edges; n++) {
			from->edges[n].from = from;
			link_init(&from->edges[n].in_dependency);
		}
	}
	e = &from->edges[k];
	link_remove(&e->in_dependency);
	e->to = to;
	link_insert(to ? &to->dependents : &from->session->loose, &e->in_dependency);
}

void edges_drop(struct instance *i)
{
	for (size_t k = 0; k < i->n_edges; k++)
		link_remove(&i->edges[k].in_dependency);
	free(i->edges);
	i->edges = NULL;
	i->n_edges = 0;
}

void edges_drop_all(struct instance *i)
{
	edges_drop(i);
	while (!link_empty(&i->dependents)) {
		struct edge *e = link_entry(i->dependents.next, struct edge, in_dependency);

		link_remove(&e->in_dependency);
		link_insert(&i->session->loose, &e->in_dependency);
		e->to = NULL;
	}
}
