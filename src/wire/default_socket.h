/* SPDX-License-Identifier: MIT */
/*
 * Where a daemon listens if nobody says where, and clients look for it. A user's own places come first: $XDG_RUNTIME_DIR, or
 * /run/user/UID where a login has made that and the variable is not passed on, /tmp/fixd-UID, and ~/.cache/fixd where that cannot be
 * made or somebody else has made it; then the machine's, /run/fixd. A directory that is not the user's own, or that others can write to, and
 * a path that is too long for a socket count for nothing. Any thread; the name service is asked only where /tmp is no place.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SYSTEM_DIR "/run/fixd"
#define SYSTEM_SOCKET SYSTEM_DIR "/socket"

/* Where a daemon of this user is to listen. False: there is no such place; $FIXD_SOCKET or an option must name one. */
bool default_socket_to_listen(char *out, size_t size);
/* It listens there, in a directory that not everybody is told of: where clients without $XDG_RUNTIME_DIR look first. False: there, too. */
bool default_socket_alias(const char *listening, char *out, size_t size);
/* Where there is a socket for this user, or else where default_socket_to_listen() would make one. */
void default_socket_to_connect(char *out, size_t size);
/* `dead` is such a one, and nobody listens there: the next. False: there is none. */
bool default_socket_behind(const char *dead, char *out, size_t size);
