/* SPDX-License-Identifier: MIT */
/* What the fixtures of a session are: read anew, or registered by clients. */
#include <errno.h>
#include <string.h>

#include "config/config.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"
#include "fixd/model/user.h"

/* `definition` gives the new one; NULL when an instance has no place in it, the old one when it is not concerned. */
static void definition_replace(struct session *s, const struct fixture *(*definition)(const struct instance *i, const void *arg),
			       const void *arg)
{
	_cleanup_vector_ struct vector list = { 0 };
	size_t kept = 0;

	s->changes++;
	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];
		const struct fixture *f = definition(i, arg);

		if (f == i->fixture)
			continue;
		if (f && instance_redefine(i, f))
			list.all[kept++] = i;
		else
			session_remove_instance(s, i);
	}
	/* Only now does nothing lead back into the old definitions. */
	for (size_t k = 0; k < s->instances.n; k++)
		session_find_dependencies(s->instances.all[k]);
	for (size_t k = 0; k < kept; k++)
		instance_propagate(list.all[k]);
}

void session_requeue(struct session *s)
{
	_cleanup_vector_ struct vector list = { 0 };

	session_each(s, session_collect, &list);
	for (size_t k = 0; k < list.n; k++) {
		struct instance *i = list.all[k];

		if ((i->state != INSTANCE_BUILDING && i->state != INSTANCE_CHECKING) || i->build || i->offer)
			continue;
		instance_unpin(i);
		instance_set_idle(i);
	}
	for (size_t k = 0; k < list.n; k++)
		instance_propagate(list.all[k]);
}

static const struct fixture *from_config(const struct instance *i, const void *arg)
{
	const struct fixture *f;

	if (i->fixture->registered)
		return i->fixture;
	f = config_find(arg, i->fixture->name);
	return f && (i->param ? list_has(f->params, i->param) : !f->params) ? f : NULL;
}

void session_redefine(struct session *s, const struct config *c)
{
	definition_replace(s, from_config, c);
}

static size_t fixture_index(const struct session *s, const char *name, bool *found)
{
	size_t low = 0, high = s->n_fixtures;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = strcmp(name, s->fixtures[mid]->name);

		if (order == 0) {
			*found = true;
			return mid;
		}
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

const struct fixture *session_fixture(const struct session *s, const char *name)
{
	bool found;
	size_t k = fixture_index(s, name, &found);

	return found ? s->fixtures[k] : NULL;
}

struct replacement {
	const struct fixture *old, *fresh;
};

static const struct fixture *replaced(const struct instance *i, const void *arg)
{
	const struct replacement *r = arg;

	if (i->fixture != r->old)
		return i->fixture;
	return r->old->reuse == r->fresh->reuse ? r->fresh : NULL;
}

int session_define(struct session *s, const char *name, char *const *settings, struct text *problems)
{
	struct fixture *f;
	bool found;
	size_t k = fixture_index(s, name, &found);
	int r;

	if (!found && (s->n_fixtures >= SESSION_FIXTURES_MAX || (s->user->limited && s->user->n_fixtures >= SESSION_FIXTURES_MAX))) {
		text_printf(problems, "%d fixtures are registered already\n", SESSION_FIXTURES_MAX);
		return -ENOSPC;
	}
	model_changed(s->model);
	r = config_define(s->model->config, s->root, name, settings, &f, problems);
	if (r < 0)
		return r;
	if (!found) {
		s->fixtures = xrealloc(s->fixtures, (s->n_fixtures + 1) * sizeof *s->fixtures);
		memmove(s->fixtures + k + 1, s->fixtures + k, (s->n_fixtures - k) * sizeof *s->fixtures);
		s->fixtures[k] = f;
		s->n_fixtures++;
		s->user->n_fixtures++;
	} else if (digest_equal(s->fixtures[k]->settings, f->settings)) {
		fixture_free(f);
	} else {
		struct fixture *old = s->fixtures[k];

		s->fixtures[k] = f;
		definition_replace(s, replaced, &(struct replacement){ old, f });
		fixture_free(old);
	}
	return 0;
}
