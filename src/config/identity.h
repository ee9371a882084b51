/* SPDX-License-Identifier: MIT */
/*
 * Who the users are that a configuration names. The name service, which may be another machine, is asked when a configuration is read
 * and at no other time: a build that begins finds what was learned. All of this may be called in any thread.
 */
#pragma once

#include <sys/types.h>

#define IDENTITY_GROUPS_MAX 64

struct identity {
	char *user;
	uid_t uid;
	gid_t gid;
	gid_t groups[IDENTITY_GROUPS_MAX];
	int n_groups;
};

/* Ask. -ENOENT: there is none. */
int identity_find_user(const char *name, uid_t *uid, gid_t *gid);
int identity_find_group(const char *name, gid_t *gid);

/* Asks. NULL: there is no such user, or it is in more groups than that. Valid for as long as the process lives. */
const struct identity *identity_learn(const char *user);
/*
 * What was learned last. A user whom no configuration has named, but a note that an earlier process has left, is looked up then.
 */
const struct identity *identity_of(const char *user);
const struct identity *identity_of_uid(uid_t uid);
