/* SPDX-License-Identifier: MIT */
/* Users, groups and their passwords, whose lines libc reads from any stream. */
#include "nss/database.h"

#include <grp.h>
#include <gshadow.h>
#include <pwd.h>
#include <shadow.h>
#include <stdlib.h>
#include <string.h>

#define NEXT(X, type)                                                          \
	static int next_##X(FILE *f, struct type *out, char *buf, size_t size) \
	{                                                                      \
		struct type *found;                                            \
                                                                               \
		return fget##X##ent_r(f, out, buf, size, &found);              \
	}

/* A line of NIS, which is nobody's. */
static bool is_of_nis(const char *name)
{
	return *name == '+' || *name == '-';
}

#define BY_NAME(X, type, file, field)                                                            \
	NSS(get##X##nam_r, const char *name, struct type *out, char *buf, size_t size, int *err) \
	{                                                                                        \
		FIND(file, next_##X, !is_of_nis(name) && !strcmp(out->field, name));             \
	}

#define BY_NUMBER(X, type, file, name_field, field, number_type, function)                    \
	NSS(function, number_type number, struct type *out, char *buf, size_t size, int *err) \
	{                                                                                     \
		FIND(file, next_##X, out->field == number && !is_of_nis(out->name_field));    \
	}

#define EACH(X, type, file)                                                    \
	NEXT(X, type)                                                          \
	WALK(X, type, file, next_##X)                                          \
	NSS(get##X##ent_r, struct type *out, char *buf, size_t size, int *err) \
	{                                                                      \
		return X##_walk(out, buf, size, err);                          \
	}

/* SHADOW and GSHADOW are libc's. */
#define PASSWD "/etc/passwd"
#define GROUP "/etc/group"

EACH(pw, passwd, PASSWD)
BY_NAME(pw, passwd, PASSWD, pw_name)
BY_NUMBER(pw, passwd, PASSWD, pw_name, pw_uid, uid_t, getpwuid_r)

EACH(gr, group, GROUP)
BY_NAME(gr, group, GROUP, gr_name)
BY_NUMBER(gr, group, GROUP, gr_name, gr_gid, gid_t, getgrgid_r)

EACH(sp, spwd, SHADOW)
BY_NAME(sp, spwd, SHADOW, sp_namp)

EACH(sg, sgrp, GSHADOW)
BY_NAME(sg, sgrp, GSHADOW, sg_namp)

/* The groups of a user, besides the walk of anybody: one more is added to the caller's list. False: there is no memory. */
static bool add_group(gid_t gid, long *start, long *size, gid_t **groups, long limit)
{
	if (*start == *size) {
		long room = limit > 0 && 2 * *size > limit ? limit : 2 * *size;
		gid_t *more = room > *size ? realloc(*groups, (size_t)room * sizeof **groups) : NULL;

		if (!more)
			return limit > 0 && *size >= limit; /* as many as are wanted */
		*groups = more;
		*size = room;
	}
	(*groups)[(*start)++] = gid;
	return true;
}

static bool is_member(const struct group *g, const char *user)
{
	for (char **m = g->gr_mem; *m; m++) {
		if (!strcmp(*m, user))
			return true;
	}
	return false;
}

static bool has_group(const gid_t *groups, long n, gid_t gid)
{
	for (long i = 0; i < n; i++) {
		if (groups[i] == gid)
			return true;
	}
	return false;
}

NSS(initgroups_dyn, const char *user, gid_t first, long *start, long *size, gid_t **groups, long limit, int *err)
{
	FILE *f = fopen(GROUP, "re");
	size_t room = 1024;
	char *buf = f ? malloc(room) : NULL;
	int r = buf ? 0 : errno;
	struct group g;

	while (r == 0 && (r = next_gr(f, &g, buf, room)) != ENOENT) {
		if (r == ERANGE) {
			char *more = realloc(buf, room *= 2);

			r = more ? 0 : ENOMEM;
			buf = more ? more : buf;
		} else if (r == 0 && g.gr_gid != first && is_member(&g, user) && !has_group(*groups, *start, g.gr_gid)) {
			r = add_group(g.gr_gid, start, size, groups, limit) ? 0 : ENOMEM;
		}
	}
	free(buf);
	if (f)
		fclose(f);
	return status_of(r == ENOENT ? 0 : r, err);
}
