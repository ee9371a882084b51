/* SPDX-License-Identifier: MIT */
#include "builder/notify.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "builder/processes.h"

#define MESSAGE_MAX 4096

int notify_open(const char *token)
{
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	_cleanup_free_ char *name = xasprintf("@fixd-%s", token);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t n = strlen(name);
	int on = 1;

	if (fd < 0)
		return -errno;
	/* The '@' stands for the zero byte that begins an abstract name. */
	memcpy(address.sun_path + 1, name + 1, n - 1);
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		return -errno;
	return setenv("NOTIFY_SOCKET", name, 1) < 0 ? -errno : fd_steal(&fd);
}

/* Messages that are read at once; the kernel queues some ten (net.unix.max_dgram_qlen). */
#define AT_ONCE 16
/* So long they wait in the queue, and their senders for room in it, when strangers send. */
#define STRANGERS_MS 10

static void slow_down(uid_t stranger)
{
	static bool said;

	if (!said)
		fprintf(stderr, "fixd-builder: user %u sends to the service's NOTIFY_SOCKET, and is not heard\n", (unsigned)stranger);
	said = true;
	poll(NULL, 0, STRANGERS_MS);
}

static bool is_pid(pid_t pid, void *arg)
{
	return pid == *(const pid_t *)arg;
}

/* One of the service's that has given up being root, or another user's; the last one that was looked for is known. */
static bool has_changed_user(pid_t pid)
{
	static pid_t last;
	static bool is;

	if (geteuid() != 0 || pid <= 1)
		return false;
	if (pid != last)
		is = processes_each_descendant(0, is_pid, &pid);
	last = pid;
	return is;
}

/* Everybody of this machine may send to an abstract name who knows it. */
static bool is_of_the_service(struct msghdr *m, uid_t *stranger)
{
	struct ucred sender;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS)
			continue;
		memcpy(&sender, CMSG_DATA(c), sizeof sender);
		*stranger = sender.uid;
		return sender.uid == geteuid() || has_changed_user(sender.pid);
	}
	*stranger = (uid_t)-1;
	return false;
}

/* A message is lines of NAME=value (sd_notify(3)). */
static unsigned read_message(char *text, struct text *status)
{
	unsigned said = 0;
	char *rest;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		said |= !strcmp(line, "READY=1") ? NOTIFY_READY : !strcmp(line, "STOPPING=1") ? NOTIFY_STOPPING : 0;
		if (!strncmp(line, "STATUS=", 7))
			text_printf(status, "%s\n", line + 7);
	}
	return said;
}

unsigned notify_read(int fd, struct text *status)
{
	/* With room for no descriptor: one that is sent is closed by the kernel. */
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	char text[MESSAGE_MAX + 1];
	unsigned said = 0, strangers = 0;
	uid_t stranger = 0;

	for (int k = 0; k < AT_ONCE; k++) {
		struct iovec v = { .iov_base = text, .iov_len = MESSAGE_MAX };
		struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
		ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		text[n] = '\0';
		if (is_of_the_service(&m, &stranger))
			said |= read_message(text, status);
		else
			strangers++;
	}
	if (strangers && !said)
		slow_down(stranger);
	return said;
}
