/* SPDX-License-Identifier: MIT */
/* Images and what was made with them: which of them are outdated, or lost, when a dependency has another one or none. */
#include "config/config.h"
#include "fixd/model/edge.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/session.h"

/* Was it made from an earlier image of what the edge leads to? One that is being looked at or built is judged when that ends. */
static bool is_outdated(const struct edge *e)
{
	const struct instance *i = e->from;

	return i->state == INSTANCE_READY && i->current && !image_built_with(i->current, edge_index(e), e->to->current);
}

#define IS_REBUILT "its dependency '%s' was rebuilt and differs"
#define IS_TORN_DOWN "its dependency '%s' is torn down"

/* What has become of its dependencies while nobody told it: a sentence, to be freed, or NULL. */
char *instance_lost_dependency(const struct instance *i)
{
	const struct image *im = i->current;

	for (size_t k = 0; k < i->n_edges; k++) {
		const struct instance *dep = i->edges[k].to;

		if (dep && dep->current && is_outdated(&i->edges[k]))
			return xasprintf(IS_REBUILT, dep->fixture->name);
	}
	for (size_t k = 0; im && k < im->n_teardown_deps; k++) {
		const struct instance *dep = im->teardown_deps[k]->instance;

		if (i->state == INSTANCE_READY && (!dep || dep->current != im->teardown_deps[k]))
			return xasprintf(IS_TORN_DOWN, dep ? dep->fixture->name : im->teardown_deps[k]->title);
	}
	return NULL;
}

static void retire_as_lost(struct instance *i, const char *cause)
{
	instance_retire(i, cause);
	if (i->fixture->policy.rebuild == REBUILD_EAGER)
		instance_warm(i);
}

void instance_check_dependencies(struct instance *i)
{
	_cleanup_free_ char *cause = instance_lost_dependency(i);

	if (cause)
		retire_as_lost(i, cause);
}

/* Not only when somebody asks for them: their views are out of date now. */
void instance_retire_outdated(const struct instance *dep)
{
	_cleanup_vector_ struct vector list = { 0 };
	_cleanup_free_ char *cause = xasprintf(IS_REBUILT, dep->fixture->name);

	link_for_each(l, &dep->dependents) {
		struct edge *e = link_entry(l, struct edge, in_dependency);

		if (is_outdated(e))
			vector_add(&list, e->from);
	}
	for (size_t k = 0; k < list.n; k++)
		retire_as_lost(list.all[k], cause);
}

/* What is torn down takes with it what was made with its help, in whatever session. */
void instance_retire_holders(const struct instance *i, struct image *im)
{
	_cleanup_vector_ struct vector list = { 0 };
	_cleanup_free_ char *cause = xasprintf(IS_TORN_DOWN, i->fixture->name);

	link_for_each(l, &im->teardown_dependents) {
		const struct image *holder = link_entry(l, struct teardown_link, in_dependents)->holder;

		if (holder->instance && holder->instance->current == holder)
			vector_add(&list, holder->instance);
	}
	for (size_t k = 0; k < list.n; k++)
		instance_retire(list.all[k], cause);
}
