/* SPDX-License-Identifier: MIT */
#include "builder/work.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/units.h"
#include "builder/descriptors.h"
#include "builder/processes.h"
#include "wire/socket.h"

/* Small enough to be digested out of the cache it was read into. */
#define CHUNK ((size_t)256 << 10)

int work_fail(struct work *w, int err, const char *fmt, ...)
{
	va_list ap;

	if (w->error)
		return err;
	va_start(ap, fmt);
	w->sentence = xvasprintf(fmt, ap);
	va_end(ap);
	w->error = err;
	return err;
}

int work_make_space(struct work *w)
{
	_cleanup_free_ char *label = xasprintf("fixd:%s", w->job.name);
	int r = space_init(&w->space, label, w->job.address, w->job.reserved, w->job.limit, (enum huge_pages)w->job.huge);

	if (r < 0)
		return work_fail(w, r, "the image cannot be mapped at 0x%llx: %s", (unsigned long long)w->job.address, strerror(-r));
	space_set_budget(&w->space, work_grant, w);
	return 0;
}

static int grant_failed(const struct work *w, int err)
{
	descriptors_check_channel(w);
	return err;
}

/* May run inside the allocator: system calls only. */
int work_grant(void *arg, uint64_t total)
{
	struct work *w = arg;
	struct job_grant ask = { .message = JOB_GRANT, .total = total + w->other_bytes };
	struct job_granted answer;
	size_t no_fds = 0;
	int r = socket_send(w->channel, &ask, sizeof ask, NULL, 0, 0);
	ssize_t n;

	if (r < 0)
		return grant_failed(w, r);
	do {
		n = socket_receive(w->channel, &answer, sizeof answer, NULL, &no_fds, 0);
	} while (n == -EINTR);
	return n == sizeof answer ? answer.error : grant_failed(w, -EPROTO);
}

const char *work_space_sentence(const struct work *w, int err, char *buf)
{
	char limit[32];

	if (err == -EDQUOT)
		snprintf(buf, WORK_SPACE_SENTENCE, "it is larger than memory-max allows (%s, or what others leave of the daemon's)",
			 format_size(limit, sizeof limit, w->job.limit));
	else if (err == -EOVERFLOW)
		snprintf(buf, WORK_SPACE_SENTENCE, "there are no addresses for it; expected no limit of them (ulimit -v)");
	else if (err == -EFBIG)
		snprintf(buf, WORK_SPACE_SENTENCE, "it is larger than files may be here; expected no limit (ulimit -f)");
	else
		snprintf(buf, WORK_SPACE_SENTENCE, "no memory for the image: %s", strerror(-err));
	return buf;
}

int work_fail_space(struct work *w, int err)
{
	char sentence[WORK_SPACE_SENTENCE];

	return work_fail(w, err, "%s", work_space_sentence(w, err, sentence));
}

/* True at the end of the file; what lies beyond the limit is found out by reading one byte more. */
static int at_end(struct work *w, int fd)
{
	char one;
	ssize_t n;

	do {
		n = read(fd, &one, 1);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return work_fail(w, -errno, "reading failed: %s", strerror(errno));
	return n == 0 ? 0 : work_fail_space(w, -EDQUOT);
}

/*
 * A pipe may stay silent for ever: the end of the daemon is heard here, too, and not only by the signal; and whose silence it is when the
 * command (-1: nobody's) has ended before.
 */
static void wait_for_pipe(struct work *w, int fd, int *command)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = w->channel }, { .fd = *command, .events = POLLIN } };

	do {
		int r;

		while ((r = poll(p, 3, -1)) < 0 && errno == EINTR)
			;
		/* Reading waits, too; who has nobody else to hear is ended from outside. */
		if (r < 0)
			return;
		if (p[1].revents & (POLLHUP | POLLERR))
			processes_die();
		if (!p[0].revents && p[2].revents) {
			fprintf(stderr,
				"the command has ended, but a process that it left behind has its standard output open: it is waited for\n");
			p[2].fd = *command = fd_close(*command);
		}
	} while (!p[0].revents);
}

#define PAGE 4096

/* Where a hole of whole pages, or one up to the end of the file, begins at `at`: its size; else 0. The file is read on from there. */
static size_t hole_at(int fd, off_t at)
{
	off_t data = lseek(fd, at, SEEK_DATA);
	struct stat st;
	size_t size;

	if (data < 0 && errno == ENXIO && fstat(fd, &st) == 0 && st.st_size > at)
		size = (size_t)(st.st_size - at);
	else
		size = data < at ? 0 : (size_t)(data - at) / PAGE * PAGE;
	lseek(fd, at + (off_t)size, SEEK_SET);
	return size;
}

static int fill_hole(struct work *w, struct digest_stream *digest, size_t size)
{
	int r = space_skip(&w->space, size);

	if (r < 0)
		return work_fail_space(w, r);
	digest_add_zeros(digest, size);
	return 0;
}

int work_fill(struct work *w, int fd, bool pipe, pid_t writer)
{
	_cleanup_fd_ int command = writer > 0 ? process_open(writer) : -1;
	struct digest_stream *digest = digest_begin();
	ssize_t n = 1;
	int err = digest ? 0 : -ENOMEM;

	while (err == 0 && n > 0) {
		size_t hole = pipe || w->space.used % PAGE ? 0 : hole_at(fd, (off_t)w->space.used);
		size_t left = w->space.limit + w->space.skipped - w->space.used, size = left < CHUNK ? left : CHUNK;
		char *p;

		if (hole > 0) {
			err = fill_hole(w, digest, hole);
			continue;
		}

		if (size == 0) {
			err = at_end(w, fd);
			break;
		}
		p = space_extend(&w->space, size, &err);
		if (!p) {
			work_fail_space(w, err);
			break;
		}
		if (pipe)
			wait_for_pipe(w, fd, &command);
		do {
			n = read(fd, p, size);
		} while (n < 0 && errno == EINTR);
		if (n < 0)
			err = work_fail(w, -errno, "reading failed: %s", strerror(errno));
		else
			digest_add(digest, p, (size_t)n);
		space_give_back(&w->space, n < 0 ? size : size - (size_t)n);
	}
	if (err < 0) {
		if (digest)
			digest_drop(digest);
		return work_fail(w, err, "no memory");
	}
	w->digest = digest_end(digest);
	return 0;
}

static int spawn_quickly(const char *path, char **argv, int out, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	extern char **environ;
	int r = posix_spawn_file_actions_init(&actions);

	if (r == 0)
		r = posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (r == 0)
		r = posix_spawn(pid, path, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

pid_t work_spawn(const char *path, char **argv, int out)
{
	pid_t pid;
	int r = spawn_quickly(path, argv, out, &pid);

	if (r != -EPERM && r != -EACCES)
		return r < 0 ? r : pid;
	pid = fork();
	if (pid != 0)
		return pid < 0 ? -errno : pid;
	if (fd_dup_to(out, 1) == 0)
		execv(path, argv);
	perror(path);
	_exit(127);
}

pid_t work_shell(struct work *w, const char *command, int out)
{
	char shell[] = "sh", option[] = "-c", *argv[] = { shell, option, (char *)command, NULL };
	pid_t pid = work_spawn("/bin/sh", argv, out < 0 ? 2 : out);

	return pid < 0 ? work_fail(w, pid, "/bin/sh cannot be started: %s", strerror(-pid)) : pid;
}

char *work_describe_end(int status)
{
	if (WIFSIGNALED(status))
		return xasprintf("was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return xasprintf("exited with status %d", WEXITSTATUS(status));
}

int work_wait(struct work *w, pid_t pid, const char *what)
{
	_cleanup_free_ char *how = NULL;
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return work_fail(w, -errno, "%s cannot be waited for: %s", what, strerror(errno));
	}
	if (status == 0)
		return 0;
	how = work_describe_end(status);
	return work_fail(w, -EIO, "%s %s", what, how);
}

void work_export(const char *name, const char *prefix, const char *path, int fd)
{
	_cleanup_free_ char *variable = xasprintf("%s%s", prefix, name), *file = xasprintf("/proc/self/fd/%d", fd);
	size_t n = strlen(variable);

	if (variable[n - 1] == ']')
		variable[n - 1] = '\0';
	for (char *p = variable; *p; p++) {
		if (!isalnum((unsigned char)*p))
			*p = '_';
	}
	setenv(variable, path ? path : file, 1);
	/* Commands open it by that path. */
	if (!path)
		fd_set_cloexec(fd, false);
}

void work_set_environment(const struct job *j)
{
	_cleanup_free_ char *port = xasprintf("%llu", (unsigned long long)j->port);

	for (size_t i = 0; j->env && j->env[i]; i++) {
		if (strchr(j->env[i], '='))
			putenv(xstrdup(j->env[i]));
		else
			unsetenv(j->env[i]);
	}
	setenv("FIXD_FIXTURE", j->name, 1);
	setenv("FIXD_PARAM", j->param ? j->param : "", 1);
	setenv("FIXD_SCOPE_KEY", j->scope_key ? j->scope_key : "", 1);
	if (j->port)
		setenv("FIXD_PORT", port, 1);
	if (j->dir)
		setenv("FIXD_DIR", j->dir, 1);
}
