/* SPDX-License-Identifier: MIT */
/*
 * The keeper of `fixctl run`: a process that outlives it however it ends. The first half of this file is that process, the second
 * what fixctl says to it and hears of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "fixctl/run.h"
#include "wire/socket.h"

#define START_MS 20000 /* for the daemon to become ready */
#define STOP_MS 900000 /* and to end, with its teardowns, which have their own time limits */
#define REMOVE_MS 30000

/* Of whoever started fixctl: a pipe that stays open would make it wait. */
static void close_all_but(const int *kept, size_t n)
{
	int from = 3;

	for (size_t i = 0; i < n; i++) {
		if (kept[i] > from)
			close_range((unsigned)from, (unsigned)kept[i] - 1, 0);
		if (kept[i] >= from)
			from = kept[i] + 1;
	}
	close_range((unsigned)from, ~0U, 0);
}

/* The program beside this one, or where the shell would find it. */
static char *find_daemon(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char *slash, *path;

	if (n <= 0)
		return xstrdup("fixd");
	self[n] = '\0';
	slash = strrchr(self, '/');
	path = xasprintf("%.*s/fixd", slash ? (int)(slash - self) : 0, self);
	if (access(path, X_OK) == 0)
		return path;
	free(path);
	return xstrdup("fixd");
}

/* In the scratch directory: who runs a command wants to hear of its fixtures, and then only the command. */
static int open_log(const char *scratch, int flags)
{
	_cleanup_free_ char *path = xasprintf("%s/daemon.log", scratch);

	return open(path, flags | O_CLOEXEC, 0600);
}

static pid_t start_daemon(const char *config, const char *socket, const char *scratch, int ready, int null)
{
	_cleanup_free_ char *program = find_daemon(), *number = xasprintf("%d", ready);
	pid_t keeper = getpid(), pid = fork();
	int log;

	if (pid != 0)
		return pid;
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	fd_set_cloexec(ready, false);
	log = open_log(scratch, O_WRONLY | O_CREAT | O_APPEND);
	if (log < 0 || fd_dup_to(null, 0) < 0 || fd_dup_to(log, 2) < 0 || fd_dup_to(2, 1) < 0)
		_exit(EXIT_FAILURE);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != keeper)
		_exit(EXIT_FAILURE);
	execlp(program, "fixd", "--config", config, "--socket", socket, "--ready-fd", number, "--log-level", "warn", "--cold", NULL);
	fprintf(stderr, "fixctl: %s: %s\n", program, strerror(errno));
	_exit(127);
}

/* Its exit status, as waitpid() has it; a daemon that does not end is ended. */
static int stop_daemon(pid_t pid)
{
	int status = 0, pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pid <= 0)
		return 0;
	kill(pid, SIGTERM);
	if (pidfd < 0 || poll(&p, 1, STOP_MS) == 0)
		kill(pid, SIGKILL);
	fd_close(pidfd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int wait_for(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do {
		r = poll(&p, 1, ms);
	} while (r < 0 && errno == EINTR);
	return r;
}

/* What is asked of it, with a descriptor. */
enum request { REQUEST_HOLD, REQUEST_WATCH };

/* What it was told to hold. */
struct held {
	int *fds;
	size_t n;
	int ends; /* an inotify descriptor of the run's mounts, or -1: there are none */
};

/* Takes descriptors, and acknowledges each, until the other end is closed. */
static void hold_until_the_end(int channel, struct held *h)
{
	for (;;) {
		int fd = -1, answer = 0;
		size_t one = 1;
		char message;
		ssize_t r = socket_receive(channel, &message, sizeof message, &fd, &one, 0);

		if (r == 0 || r == -ECONNRESET || r == -ENOTCONN)
			return;
		if (r == -EINTR)
			continue;
		if (r > 0 && one && message == REQUEST_WATCH) {
			h->ends = fd;
		} else if (r > 0 && one) {
			h->fds = xrealloc(h->fds, (h->n + 1) * sizeof *h->fds);
			h->fds[h->n++] = fd;
		} else {
			answer = r < 0 ? (int)r : -EMFILE;
		}
		if (socket_send(channel, &answer, sizeof answer, NULL, 0, 0) < 0)
			return;
	}
}

/*
 * Nobody of the run is left: 0. Its mounts end with its last process that can see them, and what the shim is loaded in has the
 * lock. -EAGAIN: there are some, and they may stay.
 */
static int wait_for_others(struct held *h, const char *scratch, bool may_stay, int *lock)
{
	if (h->ends >= 0 && wait_for(h->ends, may_stay ? 0 : -1) != 1)
		return -EAGAIN;
	return scratch_wait(scratch, may_stay, lock);
}

struct keeping {
	int channel, ready, null, lock;
	const char *scratch, *config, *socket;
};

enum kept { KEPT_NOTHING, KEPT_FOR_OTHERS };

struct farewell {
	int status; /* of the daemon, as waitpid() has it */
	int kept;   /* enum kept */
};

_Noreturn static void keep(struct keeping *k)
{
	int kept[] = { k->channel, k->ready, k->null };
	struct farewell last = { 0 };
	struct held held = { .ends = -1 };
	pid_t daemon = 0;

	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* In order: they were opened so. */
	close_all_but(kept, ELEMENTSOF(kept));
	k->lock = scratch_watch(k->scratch);
	if (k->config)
		daemon = start_daemon(k->config, k->socket, k->scratch, k->ready, k->null);
	fd_close(k->ready);
	for (int fd = 0; fd <= 2; fd++) {
		if (fd_dup_to(k->null, fd) < 0)
			close(fd); /* whoever waits for its end must not wait for us */
	}
	hold_until_the_end(k->channel, &held);
	/* Processes that the command has left behind: nobody else waits for them. */
	if (wait_for_others(&held, k->scratch, true, &k->lock) == -EAGAIN) {
		last.kept = KEPT_FOR_OTHERS;
		socket_send(k->channel, &last, sizeof last, NULL, 0, MSG_DONTWAIT);
		wait_for_others(&held, k->scratch, false, &k->lock);
	}
	last.kept = KEPT_NOTHING;
	last.status = stop_daemon(daemon);
	while (held.n > 0)
		close(held.fds[--held.n]);
	scratch_remove(k->scratch);
	socket_send(k->channel, &last, sizeof last, NULL, 0, MSG_DONTWAIT);
	_exit(EXIT_SUCCESS);
}

/* What the keeper has to say in the end; false: it said nothing. */
static bool run_keeper_hear(struct keeper *k, int ms, struct farewell *f)
{
	size_t none = 0;

	return wait_for(k->channel, ms) == 1 && socket_receive(k->channel, f, sizeof *f, NULL, &none, 0) == (ssize_t)sizeof *f;
}

static void reap(struct keeper *k)
{
	int pidfd = (int)syscall(SYS_pidfd_open, k->pid, 0);

	if (pidfd < 0 || wait_for(pidfd, REMOVE_MS) == 1) {
		while (waitpid(k->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(pidfd);
	k->pid = -1;
}

void keeper_print_log(struct keeper *k)
{
	_cleanup_fd_ int fd = k->has_daemon ? open_log(k->scratch->path, O_RDONLY) : -1;
	char buf[4096];
	ssize_t n;

	while (fd >= 0 && (n = fd_pread_all(fd, buf, sizeof buf, k->printed)) > 0 && fd_write_all(STDERR_FILENO, buf, (size_t)n) == 0)
		k->printed += n;
}

static int failed_to_start(struct keeper *k, const char *config, bool in_time)
{
	struct farewell last = { 0 };

	keeper_print_log(k);
	if (!in_time)
		fprintf(stderr, "fixctl: the daemon of %s is not ready after %d s\n", config, START_MS / 1000);
	shutdown(k->channel, SHUT_WR);
	/* Our own lock is still there: it waits for that. */
	while (run_keeper_hear(k, STOP_MS, &last) && last.kept == KEPT_FOR_OTHERS && k->scratch->lock >= 0)
		k->scratch->lock = fd_close(k->scratch->lock);
	return WIFEXITED(last.status) && WEXITSTATUS(last.status) == EXIT_BAD_CONFIG ? EXIT_BAD_CONFIG : EXIT_NO_DAEMON;
}

int keeper_start(struct keeper *k, struct scratch *s, const char *config, const char *socket)
{
	struct keeping keeping = { .scratch = s->path, .config = config, .socket = socket };
	int channel[2], ready[2], in_time = 1;
	char byte;

	*k = (struct keeper){ .pid = -1, .channel = -1, .has_daemon = config, .scratch = s };
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0) {
		perror("fixctl");
		return EXIT_REFUSED;
	}
	k->channel = channel[0];
	keeping.channel = channel[1];
	if (pipe2(ready, O_CLOEXEC) < 0) {
		perror("fixctl");
		fd_close(channel[1]);
		return EXIT_REFUSED;
	}
	keeping.ready = ready[1];
	keeping.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (keeping.null >= 0)
		k->pid = fork();
	if (k->pid == 0)
		keep(&keeping);
	if (k->pid < 0)
		perror("fixctl");
	fd_close(keeping.null);
	fd_close(channel[1]);
	fd_close(ready[1]);
	if (k->pid > 0 && config)
		in_time = wait_for(ready[0], START_MS);
	if (k->pid > 0 && config && (in_time != 1 || read(ready[0], &byte, 1) != 1)) {
		fd_close(ready[0]);
		return failed_to_start(k, config, in_time == 1);
	}
	fd_close(ready[0]);
	return k->pid < 0 ? EXIT_REFUSED : 0;
}

static int run_keeper_request(const struct keeper *k, enum request request, int fd)
{
	const char message = (char)request;
	int answer = -EPIPE, r = socket_send(k->channel, &message, 1, &fd, 1, 0);
	size_t none = 0;

	if (r == 0 && (wait_for(k->channel, START_MS) != 1 ||
		       socket_receive(k->channel, &answer, sizeof answer, NULL, &none, 0) != (ssize_t)sizeof answer))
		answer = -EPIPE;
	return r < 0 ? r : answer;
}

int keeper_hold(const struct keeper *k, int fd)
{
	return run_keeper_request(k, REQUEST_HOLD, fd);
}

int keeper_watch(const struct keeper *k, int fd)
{
	return run_keeper_request(k, REQUEST_WATCH, fd);
}

void keeper_end(struct keeper *k, struct scratch *s)
{
	struct farewell last = { 0 };

	s->lock = fd_close(s->lock);
	if (k->pid > 0) {
		shutdown(k->channel, SHUT_WR);
		if (!run_keeper_hear(k, k->has_daemon ? STOP_MS + REMOVE_MS : REMOVE_MS, &last))
			scratch_remove(s->path); /* it was killed */
		if (last.kept == KEPT_NOTHING)
			reap(k);
	} else {
		scratch_remove(s->path);
	}
	k->channel = fd_close(k->channel);
}
