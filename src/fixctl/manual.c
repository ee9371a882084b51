/* SPDX-License-Identifier: MIT */
#include "fixctl/manual.h"

#include <errno.h>
#include <fcntl.h>
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

bool manual_open(const char *command)
{
	int status;
	pid_t pid;

	if (!isatty(STDOUT_FILENO))
		return false;
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		become_man(command);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
