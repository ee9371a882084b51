/* SPDX-License-Identifier: MIT */
#include "client/spare.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "client/forked.h"
#include "wire/socket.h"

int spare_prepare(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

void spare_keep(struct spare *s, pid_t pid, int ends[2])
{
	ends[1] = fd_close(ends[1]);
	if (pid > 0)
		*s = (struct spare){ .pid = pid, .fd = fd_steal(&ends[0]) };
	else
		ends[0] = fd_close(ends[0]);
}

void spare_wait(int end, pid_t template, struct call *what)
{
	struct pollfd p = { .fd = end, .events = POLLIN };
	char wrong[FORK_SENTENCE_MAX];
	int r;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != template || socket_send(end, "", 1, NULL, 0, 0) < 0)
		_exit(0);
	do {
		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			_exit(0);
		r = call_receive(end, what, wrong);
	} while (r == -EAGAIN);
	if (r == -ENOTCONN)
		_exit(0);
	if (r < 0)
		forked_fail(what, wrong);
	fd_close(end);
}

static void spare_forget(struct spare *s)
{
	s->fd = fd_close(s->fd);
	s->pid = 0;
}

static bool it_waits(const struct spare *s)
{
	char said;
	size_t none = 0;

	return s->pid && socket_receive(s->fd, &said, sizeof said, NULL, &none, MSG_DONTWAIT) == sizeof said;
}

pid_t spare_give(struct spare *s, const struct call *what)
{
	pid_t pid = s->pid;

	if (!it_waits(s))
		return 0;
	if (socket_send(s->fd, &what->head, sizeof what->head, what->fds, FORK_FDS, MSG_DONTWAIT) < 0) {
		spare_end(s);
		return 0;
	}
	spare_forget(s);
	return pid;
}

bool spare_reap(struct spare *s)
{
	if (!s->pid || waitpid(s->pid, NULL, WNOHANG) != s->pid)
		return false;
	spare_forget(s);
	return true;
}

void spare_end(struct spare *s)
{
	if (!s->pid)
		return;
	kill(s->pid, SIGKILL);
	while (waitpid(s->pid, NULL, 0) < 0 && errno == EINTR)
		;
	spare_forget(s);
}
