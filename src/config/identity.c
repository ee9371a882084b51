/* SPDX-License-Identifier: MIT */
#include "config/identity.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/vector.h"

static struct vector known; /* by name */

static int identity_by_name(const void *key, const void *element)
{
	return strcmp(key, ((const struct identity *)element)->user);
}

static struct identity *find(const char *user, size_t *at)
{
	bool found;

	*at = vector_search(&known, user, identity_by_name, &found);
	return found ? known.all[*at] : NULL;
}

const struct identity *identity_learn(const char *user)
{
	struct passwd *pw = getpwnam(user);
	struct identity fresh = { .n_groups = IDENTITY_GROUPS_MAX }, *id;
	size_t at;

	if (!pw)
		return NULL;
	fresh.uid = pw->pw_uid;
	fresh.gid = pw->pw_gid;
	if (getgrouplist(user, pw->pw_gid, fresh.groups, &fresh.n_groups) < 0)
		return NULL;
	id = find(user, &at);
	if (!id) {
		id = xcalloc(1, sizeof *id);
		id->user = xstrdup(user);
		vector_insert(&known, at, id);
	}
	fresh.user = id->user;
	*id = fresh;
	return id;
}

const struct identity *identity_of(const char *user)
{
	size_t at;
	const struct identity *id = find(user, &at);

	return id ? id : identity_learn(user);
}

const struct identity *identity_of_uid(uid_t uid)
{
	struct passwd *pw;

	for (size_t k = 0; k < known.n; k++) {
		const struct identity *id = known.all[k];

		if (id->uid == uid)
			return id;
	}
	pw = getpwuid(uid);
	return pw ? identity_learn(pw->pw_name) : NULL;
}
