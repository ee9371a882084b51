/* SPDX-License-Identifier: MIT */
#include "fixd/background.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* A start is as long as it is: who is tired of waiting ends this process. */
static _Noreturn void wait_until_it_listens(pid_t child, int ready)
{
	char byte;
	ssize_t n;
	int status = 0;

	do {
		n = read(ready, &byte, 1);
	} while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(EXIT_SUCCESS);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		_exit(128 + WTERMSIG(status));
	_exit(WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

/* Standard error stays: the log goes where the caller has sent it. */
static int leave_terminal(void)
{
	_cleanup_fd_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || setsid() < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return -errno;
	return 0;
}

int background_enter(void)
{
	int ready[2], r;
	pid_t child;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	/* The status of a child that nobody waits for is not kept. */
	signal(SIGCHLD, SIG_DFL);
	child = fork();
	if (child > 0) {
		close(ready[1]);
		wait_until_it_listens(child, ready[0]);
	}
	r = child < 0 ? -errno : leave_terminal();
	close(ready[0]);
	if (r == 0)
		return ready[1];
	close(ready[1]);
	return r;
}
