/* SPDX-License-Identifier: MIT */
/*
 * Where a daemon listens if nobody says where, and clients look for it. A user's own places come first: $XDG_RUNTIME_DIR, or
 * /run/user/UID where a login has made that and the variable is not passed on, /tmp/fixd-UID, and ~/.cache/fixd where somebody else
 * has made the one in /tmp; then the machine's, /run/fixd. A directory that is not the user's own, or that others can write to, counts for
 * nothing. Any thread; no memory is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SYSTEM_SOCKET "/run/fixd/socket"

/* Where a daemon of this user is to listen. False: there is no such place; $FIXD_SOCKET or an option must name one. */
bool default_socket_to_listen(char *out, size_t size);
/* Where there is a socket for this user, or else where default_socket_to_listen() would make one. */
void default_socket_to_connect(char *out, size_t size);
/* `dead` is such a one, and nobody listens there: the next. False: there is none. */
bool default_socket_behind(const char *dead, char *out, size_t size);
