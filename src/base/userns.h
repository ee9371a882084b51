/* SPDX-License-Identifier: MIT */
/* User namespaces (user_namespaces(7)) of an unprivileged process. */
#pragma once

#include <sys/types.h>

/* Called in a new user namespace: these ids, and no others, are what they were outside. 0 or -errno. */
int userns_map(uid_t uid, gid_t gid);
