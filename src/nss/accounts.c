/* SPDX-License-Identifier: MIT */
/* Users, groups and their passwords, whose lines libc reads from any stream. */
#include "nss/database.h"

#include <grp.h>
#include <gshadow.h>
#include <pwd.h>
#include <shadow.h>
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
