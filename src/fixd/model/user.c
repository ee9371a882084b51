/* SPDX-License-Identifier: MIT */
#include "fixd/model/user.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "config/config.h"
#include "fixd/model/model.h"

/* Of one user's; the board has slots for four times as many. */
#define USER_INSTANCES_MAX 4096

struct user *user_get(struct model *m, uid_t uid)
{
	struct user *u;

	link_for_each(l, &m->users) {
		u = link_entry(l, struct user, link);
		if (u->uid == uid)
			return user_ref(u);
	}
	u = xcalloc(1, sizeof *u);
	u->model = m;
	u->uid = uid;
	u->limited = uid != 0 && uid != m->uid;
	u->refs = 1;
	link_init(&u->unused);
	link_insert(&m->users, &u->link);
	return u;
}

struct user *user_ref(struct user *u)
{
	u->refs++;
	return u;
}

struct user *user_unref(struct user *u)
{
	if (!u || --u->refs > 0)
		return NULL;
	link_remove(&u->link);
	free(u->lane);
	free(u);
	return NULL;
}

char *user_refusal(const struct user *u, const char *what, const char *key, unsigned long long max)
{
	return xasprintf("user %u has %llu %s already; %s in fixd.ini allows no more", (unsigned)u->uid, max, what, key);
}

char *user_refuses_connection(const struct user *u)
{
	uint64_t max = u->model->config->user_connections_max;

	return u->limited && u->n_connections >= max ? user_refusal(u, "connections", "user-connections-max", max) : NULL;
}

char *user_refuses_build(const struct user *u)
{
	uint64_t max = u->model->config->user_builds_max;

	return u->limited && u->n_builds >= max ? user_refusal(u, "builds under way", "user-builds-max", max) : NULL;
}

bool user_is_full(const struct user *u)
{
	return u->limited && u->n_instances >= USER_INSTANCES_MAX;
}

uint64_t user_bytes_left(const struct user *u)
{
	const struct config *c = u->model->config;

	return u->limited && c->user_memory_max < c->memory_max ? c->user_memory_max : c->memory_max;
}
