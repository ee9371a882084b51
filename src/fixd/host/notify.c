/* SPDX-License-Identifier: MIT */
#include "fixd/host/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"

#define BARRIER_MS 5000

/* For a manager whose socket is full: the start may wait, and then others are served. One that does not listen is not waited for again. */
static struct timeval patience = { .tv_sec = 5 };
static bool deaf;

static void deliver(const char *message, int fd)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct iovec iov = { (char *)message, strlen(message) };
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr msg = { .msg_name = &to, .msg_iov = &iov, .msg_iovlen = 1 };
	_cleanup_fd_ int sock = -1;

	if (!path || (*path != '/' && *path != '@') || strlen(path) >= sizeof to.sun_path)
		return;
	memcpy(to.sun_path, path, strlen(path));
	msg.msg_namelen = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (*path == '@')
		to.sun_path[0] = '\0'; /* the abstract namespace */
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control.bytes;
		*CMSG_FIRSTHDR(&msg) =
			(struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof fd);
	}
	sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 ||
	    sendmsg(sock, &msg, MSG_NOSIGNAL | (deaf ? MSG_DONTWAIT : 0)) < 0) {
		if (!deaf)
			log_warn(-errno, "the service manager at %s cannot be told", path);
		deaf = errno == EAGAIN;
		return;
	}
	deaf = false;
}

void notify_be_brief(void)
{
	patience = (struct timeval){ .tv_usec = 100000 };
}

void notify_send(const char *fmt, ...)
{
	_cleanup_free_ char *message = NULL;
	va_list ap;

	va_start(ap, fmt);
	message = xvasprintf(fmt, ap);
	va_end(ap);
	deliver(message, -1);
}

void notify_send_fd(int fd, const char *fmt, ...)
{
	_cleanup_free_ char *message = NULL;
	va_list ap;

	va_start(ap, fmt);
	message = xvasprintf(fmt, ap);
	va_end(ap);
	deliver(message, fd);
}

/* sd_notify_barrier(3): it closes the descriptor. */
void notify_reloading(void)
{
	struct timespec t;

	/* systemd compares it with its own reading of that clock (sd_notify(3)), which is not ours: that goes on while the machine sleeps. */
	clock_gettime(CLOCK_MONOTONIC, &t);
	notify_send("RELOADING=1\nMONOTONIC_USEC=%lld", t.tv_sec * 1000000LL + t.tv_nsec / 1000);
}

void notify_barrier(void)
{
	struct pollfd p = { .events = 0 };
	int pipes[2];

	if (!getenv("NOTIFY_SOCKET") || pipe2(pipes, O_CLOEXEC) < 0)
		return;
	notify_send_fd(pipes[1], "BARRIER=1");
	close(pipes[1]);
	p.fd = pipes[0];
	poll(&p, 1, BARRIER_MS);
	close(pipes[0]);
}
