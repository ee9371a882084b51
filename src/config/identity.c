/* SPDX-License-Identifier: MIT */
#include "config/identity.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/vector.h"

#define ENTRY_MAX ((size_t)1 << 20)

/* What is known of a user, by name; what was known before stays, for those who have it. */
static struct vector known;
static pthread_mutex_t known_lock = PTHREAD_MUTEX_INITIALIZER;

/* An entry of the name service, which may be as long as it likes. */
struct entry {
	char *data;
	size_t size;
};

static void entry_deinit(struct entry *e)
{
	free(e->data);
}

#define _cleanup_entry_ __attribute__((cleanup(entry_deinit)))

/* True: it was too short, and is longer now. */
static bool entry_grow(struct entry *e, int err)
{
	if (e->size && (err != ERANGE || e->size > ENTRY_MAX))
		return false;
	e->size = e->size ? e->size * 4 : 1024;
	e->data = xrealloc(e->data, e->size);
	return true;
}

int identity_find_user(const char *name, uid_t *uid, gid_t *gid)
{
	_cleanup_entry_ struct entry e = { 0 };
	struct passwd pw, *found = NULL;
	int err = 0;

	while (entry_grow(&e, err))
		err = getpwnam_r(name, &pw, e.data, e.size, &found);
	if (!found)
		return -ENOENT;
	*uid = pw.pw_uid;
	*gid = pw.pw_gid;
	return 0;
}

int identity_find_group(const char *name, gid_t *gid)
{
	_cleanup_entry_ struct entry e = { 0 };
	struct group gr, *found = NULL;
	int err = 0;

	while (entry_grow(&e, err))
		err = getgrnam_r(name, &gr, e.data, e.size, &found);
	if (!found)
		return -ENOENT;
	*gid = gr.gr_gid;
	return 0;
}

static int identity_by_name(const void *key, const void *element)
{
	return strcmp(key, ((const struct identity *)element)->user);
}

static bool same_identity(const struct identity *a, const struct identity *b)
{
	return a->uid == b->uid && a->gid == b->gid && a->n_groups == b->n_groups &&
	       !memcmp(a->groups, b->groups, (size_t)a->n_groups * sizeof *a->groups);
}

/* The same for all who ask for it, unless it has changed. */
static const struct identity *remember(const struct identity *fresh)
{
	struct identity *id;
	bool found;
	size_t at;

	pthread_mutex_lock(&known_lock);
	at = vector_search(&known, fresh->user, identity_by_name, &found);
	id = found ? known.all[at] : NULL;
	if (!id || !same_identity(id, fresh)) {
		id = xcalloc(1, sizeof *id);
		*id = *fresh;
		id->user = xstrdup(fresh->user);
		if (found)
			known.all[at] = id;
		else
			vector_insert(&known, at, id);
	}
	pthread_mutex_unlock(&known_lock);
	return id;
}

const struct identity *identity_learn(const char *user)
{
	_cleanup_free_ char *name = xstrdup(user);
	struct identity fresh = { .user = name, .n_groups = IDENTITY_GROUPS_MAX };

	if (identity_find_user(user, &fresh.uid, &fresh.gid) < 0 || getgrouplist(user, fresh.gid, fresh.groups, &fresh.n_groups) < 0)
		return NULL;
	return remember(&fresh);
}

const struct identity *identity_of(const char *user)
{
	const struct identity *id;
	bool found;
	size_t at;

	pthread_mutex_lock(&known_lock);
	at = vector_search(&known, user, identity_by_name, &found);
	id = found ? known.all[at] : NULL;
	pthread_mutex_unlock(&known_lock);
	return id ? id : identity_learn(user);
}

const struct identity *identity_of_uid(uid_t uid)
{
	_cleanup_entry_ struct entry e = { 0 };
	const struct identity *id = NULL;
	struct passwd pw, *found = NULL;
	int err = 0;

	pthread_mutex_lock(&known_lock);
	for (size_t k = 0; !id && k < known.n; k++) {
		if (((const struct identity *)known.all[k])->uid == uid)
			id = known.all[k];
	}
	pthread_mutex_unlock(&known_lock);
	while (!id && entry_grow(&e, err))
		err = getpwuid_r(uid, &pw, e.data, e.size, &found);
	return id || !found ? id : identity_learn(pw.pw_name);
}
