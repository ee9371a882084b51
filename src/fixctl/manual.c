/* SPDX-License-Identifier: MIT */
#include "fixctl/manual.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"

/* Only of less it is known how it is told where to begin. */
static bool pager_is_less(void)
{
	const char *pager = getenv("MANPAGER");

	if (!pager || !*pager)
		pager = getenv("PAGER");
	return !pager || !*pager || !strncmp(pager, "less", 4);
}

/* What man says when it has no such page is not for the reader: there is a shorter text. */
static _Noreturn void become_man(const char *command)
{
	_cleanup_free_ char *pager = xasprintf("less -R '+/^ +%s$'", command);
	int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);

	if (nowhere >= 0)
		dup2(nowhere, STDERR_FILENO);
	if (pager_is_less())
		execlp("man", "man", "-P", pager, "1", "fixctl", (char *)NULL);
	else
		execlp("man", "man", "1", "fixctl", (char *)NULL);
	_exit(127);
}

/* The keys of a pager are not for who waits for it: it goes on, and has the terminal. */
static void ignore_keys(struct sigaction before[2])
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGINT, &ignore, &before[0]);
	sigaction(SIGQUIT, &ignore, &before[1]);
}

static void heed_keys(const struct sigaction before[2])
{
	sigaction(SIGINT, &before[0], NULL);
	sigaction(SIGQUIT, &before[1], NULL);
}

bool manual_open(const char *command)
{
	struct sigaction before[2];
	int status = 0;
	pid_t pid;

	if (!isatty(STDOUT_FILENO))
		return false;
	fflush(NULL);
	ignore_keys(before);
	pid = fork();
	if (pid == 0) {
		heed_keys(before);
		become_man(command);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	heed_keys(before);
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
