/* SPDX-License-Identifier: MIT */
#include "fixd/model/policy.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/units.h"
#include "config/config.h"
#include "fixd/model/effect.h"
#include "fixd/model/image.h"
#include "fixd/model/instance.h"
#include "fixd/model/model.h"
#include "fixd/model/session.h"

int64_t policy_expires(const struct instance *i)
{
	const struct policy *p = &i->fixture->policy;
	const struct image *im = i->current;

	if (!im || p->max_age == DURATION_NONE)
		return INT64_MAX;
	if (p->age_from == AGE_FROM_CREATION)
		return im->created + p->max_age;
	/* What is held is in use now. */
	return im->n_uses ? INT64_MAX : im->used + p->max_age;
}

char *policy_too_old(const struct instance *i)
{
	const struct policy *p = &i->fixture->policy;
	int64_t now = model_now(i->session->model), expires = policy_expires(i);
	char age[32], max[32];

	if (now <= expires)
		return NULL;
	format_duration(age, sizeof age, now - expires + p->max_age);
	format_duration(max, sizeof max, p->max_age);
	return xasprintf("max-age: %s %s, allowed are %s", age,
			 p->age_from == AGE_FROM_CREATION ? "since it was built" : "since its last use", max);
}

const char *policy_other_definition(const struct fixture *f)
{
	return f->registered ? "its definition changed" : "its section in the ini file changed";
}

enum verdict policy_judge(struct instance *i, int64_t asked, char **cause)
{
	const struct policy *p = &i->fixture->policy;
	const struct effects *world = i->session->model->effects;
	const struct image *im = i->current;

	if (!digest_equal(im->section, i->fixture->section)) {
		*cause = xstrdup(policy_other_definition(i->fixture));
		return VERDICT_STALE;
	}
	if (im->died) {
		*cause = xstrdup(im->died);
		return VERDICT_STALE;
	}
	if (im->created < asked && (*cause = policy_too_old(i)))
		return VERDICT_STALE;
	if (i->watch && !world->look(i->watch, asked))
		return VERDICT_LOOK_ON;
	if (i->watch && (*cause = world->found(i->watch)))
		return p->watch_by == WATCH_BY_CONTENT ? VERDICT_COMPARE_BYTES : VERDICT_STALE;
	if (p->check && im->checked < asked)
		return VERDICT_RUN_CHECK;
	if (i->fixture->reset && im->dirty && im->n_uses == 0 && im->n_pins == 0 && im->n_teardown_dependents == 0)
		return VERDICT_RUN_RESET;
	return VERDICT_FRESH;
}
