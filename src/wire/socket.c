/* SPDX-License-Identifier: MIT */
#include "wire/socket.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * SOCKET_FDS_MAX)];
};

int socket_address(const char *path, struct sockaddr_storage *address, socklen_t *length)
{
	struct sockaddr_un *un = (struct sockaddr_un *)address;
	size_t n = strlen(path);

	if (n == 0 || n >= sizeof un->sun_path)
		return -ENAMETOOLONG;
	memset(un, 0, sizeof *un);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, n + 1);
	*length = sizeof *un;
	return 0;
}

/* The kernel counts the time of the socket anew for every call: signals must not make it endless. */
static bool may_go_on(int fd, int64_t *deadline)
{
	struct timeval limit = { 0 };
	socklen_t size = sizeof limit;
	struct timespec t;
	int64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
	if (*deadline == 0) {
		bool limited = getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &size) == 0 && (limit.tv_sec || limit.tv_usec);

		*deadline = limited ? now + limit.tv_sec * INT64_C(1000000) + limit.tv_usec : INT64_MAX;
	}
	errno = EINTR;
	return now < *deadline;
}

bool socket_is_of_user(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && peer.uid == geteuid();
}

int socket_send(int fd, const void *data, size_t size, const int *fds, size_t n_fds, int flags)
{
	struct iovec iov = { (void *)data, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	union control control;
	int64_t deadline = 0;
	ssize_t n;

	if (n_fds) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		memset(control.bytes, 0, msg.msg_controllen);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		n = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR && may_go_on(fd, &deadline));
	return n < 0 ? (errno == EINTR ? -EAGAIN : -errno) : 0;
}

/* Moves the descriptors of a message to `fds`; what does not fit is closed. Returns false if something did not fit. */
static bool take_fds(struct msghdr *msg, int *fds, size_t *n_fds)
{
	size_t room = *n_fds;
	bool all = true;

	*n_fds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (*n_fds < room) {
				fds[(*n_fds)++] = fd;
			} else {
				fd_close(fd);
				all = false;
			}
		}
	}
	return all;
}

static ssize_t receive_packet(int fd, void *data, size_t size, int *fds, size_t *n_fds, int flags)
{
	struct iovec iov = { data, size };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;
	bool all;

	msg.msg_control = control.bytes;
	msg.msg_controllen = *n_fds ? CMSG_SPACE(sizeof(int) * *n_fds) : 0;
	/*
	 * Who does not wait is told once that there is something. And where the other side has ended without having read everything, the
	 * kernel says that first, once, and then gives what was sent before.
	 */
	do {
		n = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && (errno == ECONNRESET || (errno == EINTR && (flags & MSG_DONTWAIT))));
	if (n < 0) {
		*n_fds = 0;
		return -errno;
	}
	all = take_fds(&msg, fds, n_fds);
	if (n > 0 && all && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n;
	for (size_t i = 0; i < *n_fds; i++)
		fd_close(fds[i]);
	*n_fds = 0;
	/* An empty packet, which nobody here sends, is taken for the end, and nobody looks for what came with it. */
	if (n == 0)
		return 0;
	return all && !(msg.msg_flags & MSG_TRUNC) ? -EMFILE : -EMSGSIZE;
}

ssize_t socket_receive(int fd, void *data, size_t size, int *fds, size_t *n_fds, int flags)
{
	size_t room = *n_fds;
	ssize_t n = receive_packet(fd, data, size, fds, n_fds, flags);

	/*
	 * The kernel looks whether there is a packet, and then whether the other side has gone, which may have sent its last one between
	 * the two (unix_dgram_recvmsg() of net/unix/af_unix.c). Nothing can come after the end has been seen.
	 */
	if (n != 0)
		return n;
	*n_fds = room;
	n = receive_packet(fd, data, size, fds, n_fds, flags | MSG_DONTWAIT);
	return n == -EAGAIN ? 0 : n;
}
