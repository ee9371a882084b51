/* SPDX-License-Identifier: MIT */
#include "fixd/host/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "config/identity.h"
#include "wire/job.h"

static char helper[PATH_MAX];
static char **helper_env;

/* What a builder sees of the daemon's environment; more must be named in `env =`. */
static const char *const passed_on[] = { "PATH",	  "HOME",	  "USER",	  "LOGNAME",	    "SHELL",
					 "LANG",	  "LC_ALL",	  "TZ",		  "TMPDIR",	    "ASAN_OPTIONS",
					 "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH" };

static void make_env(void)
{
	size_t n = 0;

	helper_env = xcalloc(ELEMENTSOF(passed_on) + 1, sizeof *helper_env);
	for (size_t i = 0; i < ELEMENTSOF(passed_on); i++) {
		const char *v = getenv(passed_on[i]);

		if (v)
			helper_env[n++] = xasprintf("%s=%s", passed_on[i], v);
	}
}

int spawn_init(void)
{
	const char *named = secure_getenv("FIXD_BUILDER");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash;
	int r = process_open(getpid());

	if (r == -EPERM || r == -ENOSYS) {
		log_error(r, "pidfd_open(2) is refused: expected Linux 5.3 or later, and a seccomp filter that allows it");
		return r;
	}
	fd_close(r);
	make_env();
	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		memcpy(helper, self, (size_t)(slash - self) + 1);
		strncat(helper, "fixd-builder", sizeof helper - strlen(helper) - 1);
	}
	if (named && strlen(named) < sizeof helper)
		strcpy(helper, named);
	else if (access(helper, X_OK) < 0 && !is_passing(-errno))
		strcpy(helper, PKGLIBEXECDIR "/fixd-builder");
	/* For a moment the kernel may not be able to say: then the first build will tell. */
	r = access(helper, X_OK) < 0 && !is_passing(-errno) ? -errno : 0;
	if (r < 0)
		log_error(r, "the program fixd-builder is not there");
	return r;
}

/* Numbers above those that a helper has: nothing that is set up lies in the way of something else. */
static int out_of_the_way(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, JOB_CHANNEL_FD + 1);
}

/* In the child: 0, or -1 and errno. */
static int set_up_descriptors(int channel, int errors)
{
	int null = out_of_the_way(open("/dev/null", O_RDWR | O_CLOEXEC));

	/* What cannot be told not to be passed on was opened so that it is not. */
	if (null < 0 || fd_dup_to(null, STDIN_FILENO) < 0 || fd_dup_to(null, STDOUT_FILENO) < 0 || fd_dup_to(errors, STDERR_FILENO) < 0 ||
	    fd_dup_to(channel, JOB_CHANNEL_FD) < 0)
		return -1;
	syscall(SYS_close_range, JOB_CHANNEL_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	return 0;
}

static int become_user(const struct identity *id)
{
	if (!id)
		return 0;
	return setgroups((size_t)id->n_groups, id->groups) < 0 || setgid(id->gid) < 0 || setuid(id->uid) < 0 ? -1 : 0;
}

_Noreturn static void cannot_start(int errors, const char *what)
{
	char line[256];
	int n = snprintf(line, sizeof line, "fixd-builder cannot be started: %s: %s\n", what, strerror(errno));

	if (write(errors, line, (size_t)n) != n)
		_exit(126);
	_exit(127);
}

/* Where a seccomp filter does not know execveat(2), by the name that the descriptor has. */
static void execute(int program, char **argv)
{
	char path[32];

	syscall(SYS_execveat, program, "", argv, helper_env, AT_EMPTY_PATH);
	if (errno != EPERM && errno != ENOSYS)
		return;
	snprintf(path, sizeof path, "/proc/self/fd/%d", program);
	execve(path, argv, helper_env);
}

/* In the child. Whatever fails here shows as an exit status of 127 and a line in the log. */
_Noreturn static void become_helper(int channel, int errors, const struct identity *id, enum spawn_flags flags)
{
	char name[] = "fixd-builder", *argv[] = { name, NULL };
	struct rlimit no_core = { 0, 0 };
	/* Opened before another user is taken on, who may not be able to reach it. */
	int program = out_of_the_way(open(helper, O_PATH | O_CLOEXEC)), said = out_of_the_way(errors);
	sigset_t none;

	if (said < 0)
		said = errors;
	channel = out_of_the_way(channel);
	if (program < 0 || channel < 0)
		cannot_start(said, helper);
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		cannot_start(said, "signals");
	/* A shell starts what is in the background with SIGINT and SIGQUIT ignored, and nohup(1) with SIGHUP. Two cannot be changed. */
	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	if (setpgid(0, 0) < 0)
		cannot_start(said, "a process group");
	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		cannot_start(said, "the limit of core files");
	if (flags & SPAWN_STEADY)
		personality(ADDR_NO_RANDOMIZE); /* best effort */
	if (flags & SPAWN_OWN_IPC)
		unshare(CLONE_NEWIPC); /* needs root */
	if (set_up_descriptors(channel, said) < 0)
		cannot_start(said, "standard output and the channel");
	if (become_user(id) < 0)
		cannot_start(said, "the user");
	execute(program, argv);
	cannot_start(said, helper);
}

int spawn_helper(const char *user, enum spawn_flags flags, struct spawned *out)
{
	_cleanup_fd_ int here = -1, there = -1, from = -1, to = -1;
	const struct identity *id = user ? identity_of(user) : NULL;
	int pair[2], pipes[2], r;
	pid_t pid;

	if (user && !id)
		return -ESRCH;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	here = pair[0];
	there = pair[1];
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	from = pipes[0];
	to = pipes[1];
	if ((r = fd_set_nonblock(here, true)) < 0 || (r = fd_set_nonblock(from, true)) < 0)
		return r;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		become_helper(there, to, id, flags);
	/* Both sides do it, so that the group is there whoever runs first. */
	setpgid(pid, pid);
	out->pidfd = process_open(pid);
	if (out->pidfd < 0) {
		r = out->pidfd;
		process_kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return r;
	}
	out->pid = pid;
	out->channel = fd_steal(&here);
	out->errors = fd_steal(&from);
	return 0;
}

#define ENDING 4 /* PF_EXITING, in the seventh field behind the name (proc_pid_stat(5)) */

bool spawn_is_ending(pid_t pid)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/stat", (int)pid), *stat = NULL;
	const char *behind;
	unsigned flags;
	size_t n;

	return file_read_all(path, 4096, &stat, &n) < 0 || !(behind = strrchr(stat, ')')) ||
	       sscanf(behind, ") %*c %*d %*d %*d %*d %*d %u", &flags) != 1 || (flags & ENDING);
}

#define REAP_TRIES 10

void spawn_reap(pid_t pid, siginfo_t *status)
{
	int r = -1;

	/* What is passing is over by then; somebody who is not our child cannot be asked. */
	for (int tries = 0; r < 0 && tries < REAP_TRIES; tries++) {
		memset(status, 0, sizeof *status);
		r = waitid(P_PID, (id_t)pid, status, WEXITED | WNOHANG);
		if (r < 0 && errno == ECHILD)
			break;
	}
}
