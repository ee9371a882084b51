/* SPDX-License-Identifier: MIT */
#include "fixd/model/visibility.h"

#include <string.h>

#include "base/alloc.h"
#include "base/glob.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/model/client.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"

bool see_session(const struct client *c, const struct session *s)
{
	if (c->session)
		return s == c->session;
	return c->owner || s == c->model->session || s->uid == c->uid;
}

/* The session of the ini file is everybody's; what its own user's clients have added to it is not. */
bool see_fixture(const struct client *c, const struct session *s, const struct fixture *f)
{
	return f->source != SOURCE_CLIENT || !f->registered || c->owner || s->uid == c->uid;
}

bool see_instance(const struct client *c, const struct instance *i)
{
	return i->fixture->source != SOURCE_CLIENT || c->owner || i->session->uid == c->uid;
}

/* A bracket in a glob would be a set of characters: the plain name is compared first. */
static bool visibility_is_named(const char *pattern, const struct instance *i, const char *name)
{
	return !strcmp(pattern, name) || !strcmp(pattern, i->title) || glob_match(pattern, i->fixture->name) || glob_match(pattern, name);
}

bool see_named(const char *pattern, const struct instance *i)
{
	_cleanup_free_ char *name = instance_plain_name(i);

	return visibility_is_named(pattern, i, name);
}

bool see_named_any(char *const *patterns, const struct instance *i)
{
	_cleanup_free_ char *name = instance_plain_name(i);
	bool named = false;

	for (size_t k = 0; patterns[k] && !named; k++)
		named = visibility_is_named(patterns[k], i, name);
	return named;
}
