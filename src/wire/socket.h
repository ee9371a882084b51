/* SPDX-License-Identifier: MIT */
/*
 * Packets with descriptors over a Unix socket, by plain system calls. What is received is close-on-exec; a packet that was
 * cut (data or descriptors) is an error and none of its descriptors stay open.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define SOCKET_FDS_MAX 253 /* SCM_MAX_FD */

#define SOCKET_PATH_MAX 107 /* bytes of sun_path (unix(7)), less its NUL */

/* Fills `address` for a path. -ENAMETOOLONG, also for an empty one. */
int socket_address(const char *path, struct sockaddr_storage *address, socklen_t *length);

/* Was the other end made by a process of our user? */
bool socket_is_of_user(int fd);

/* Sends one packet. -EAGAIN only with MSG_DONTWAIT in `flags`, or when SO_SNDTIMEO is over. 0 or -errno. */
int socket_send(int fd, const void *data, size_t size, const int *fds, size_t n_fds, int flags);

/*
 * Receives one packet of at most `size` bytes and `*n_fds` descriptors (both set to what came). Returns the bytes, 0 at the
 * end of the stream, -EINTR (not with MSG_DONTWAIT), -EMSGSIZE for a cut packet, -EMFILE when its descriptors could not be taken (the bytes are there),
 * or -errno.
 */
ssize_t socket_receive(int fd, void *data, size_t size, int *fds, size_t *n_fds, int flags);
