/* SPDX-License-Identifier: MIT */
/*
 * With whose rights paths are looked at. What a client names is seen as the client would see it: of what it may not look into, neither
 * names nor existence, size or change are found out. A daemon of root takes on the client's identity for file systems
 * (setfsuid(2)) meanwhile; one of another user asks the modes of all that is passed on the way, a step at a time.
 */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
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
/* For another process, and there; one that is not whole may see nothing. */
struct record;
struct text;
void viewer_save(const struct viewer *v, uint16_t field, struct text *out);
struct viewer *viewer_restore(const struct record *saved);

/* From here to viewer_end() this thread sees what `v` (or NULL: the daemon) may see. False: that cannot be; nothing is to be looked at. */
bool viewer_begin(const struct viewer *v);
void viewer_end(const struct viewer *v);
/*
 * Between: what `v` may see at `path`, as an O_PATH descriptor, or -errno. What is judged is what was opened: nobody can put something
 * else there meanwhile. `read`: what it has may be read, too; `follow`: also a link at the end.
 */
int viewer_open(const struct viewer *v, const char *path, bool read, bool follow);
/* The same, or that there is nothing. */
bool viewer_may_see(const struct viewer *v, const char *path, bool read);
/* 0 or -errno. */
int viewer_stat(const struct viewer *v, const char *path, bool follow, struct stat *st);
/* NULL: it cannot be read. */
DIR *viewer_opendir(const struct viewer *v, const char *path);
