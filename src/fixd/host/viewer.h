/* SPDX-License-Identifier: MIT */
/*
 * With whose rights paths are looked at. What a client names is seen as the client would see it: of what it may not look into, neither
 * names nor existence, size or change are found out. A daemon of root takes on the client's identity for file systems
 * (setfsuid(2)) meanwhile; one of another user asks the modes of all that is passed on the way.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct viewer {
	uid_t uid;
	gid_t gid;
	size_t n_groups;
	gid_t groups[];
};

/* The peer of a connection, to be freed. NULL: it is the daemon's own user, or root, and sees what the daemon sees. */
struct viewer *viewer_of_peer(int fd);
struct viewer *viewer_new(uid_t uid, gid_t gid, const gid_t *groups, size_t n);
struct viewer *viewer_dup(const struct viewer *v);

/* From here to viewer_end() this thread sees what `v` (or NULL: the daemon) may see. False: that cannot be; nothing is to be looked at. */
bool viewer_begin(const struct viewer *v);
void viewer_end(const struct viewer *v);
/* Between: may the path be looked at? `read`: and what it has, a directory's names, too. */
bool viewer_may_see(const struct viewer *v, const char *path, bool read);
