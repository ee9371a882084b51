/* SPDX-License-Identifier: MIT */
#include "fixctl/program.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

static char *beside(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');

	return xasprintf("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
}

char *program_path(const char *name)
{
	const char *builder = secure_getenv("FIXD_BUILDER");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *path;

	self[n > 0 ? n : 0] = '\0';
	path = beside(builder ? builder : self, name);
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return xasprintf("%s/%s", PKGLIBEXECDIR, name);
}

pid_t program_start(const char *path, char **argv, int out, const int *keep)
{
	pid_t pid = fork();

	if (pid < 0)
		fprintf(stderr, "fixctl: %s cannot be started: %s\n", path, strerror(errno));
	if (pid != 0)
		return pid < 0 ? -errno : pid;
	for (; keep && *keep >= 0; keep++)
		fd_set_cloexec(*keep, false);
	if (out < 0 || fd_dup_to(out, 1) == 0)
		execv(path, argv);
	fprintf(stderr, "fixctl: %s cannot be started: %s\n", path, strerror(errno));
	_exit(127);
}

int program_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return 127;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
