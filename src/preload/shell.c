/* SPDX-License-Identifier: MIT */
/*
 * libc starts the shell by itself, with the environment as it is. Where that lacks what the run's processes have, the shell is
 * started here, as POSIX describes system() and popen().
 */
#include "preload/shim.h"

#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return status;
}

SHIM int system(const char *command)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, had_int, had_quit;
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawnattr_t attributes;
	sigset_t block, had, defaults;
	pid_t pid;
	int r;

	if (!command || environment_is_complete())
		return REAL(system)(command);
	sigemptyset(&block);
	sigaddset(&block, SIGCHLD);
	sigemptyset(&defaults);
	sigaction(SIGINT, &ignore, &had_int);
	sigaction(SIGQUIT, &ignore, &had_quit);
	pthread_sigmask(SIG_BLOCK, &block, &had);
	if (had_int.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGINT);
	if (had_quit.sa_handler != SIG_IGN)
		sigaddset(&defaults, SIGQUIT);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setsigmask(&attributes, &had);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	r = SEEN(posix_spawn)(&pid, "/bin/sh", NULL, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	r = r ? (errno = r, -1) : wait_for(pid);
	sigaction(SIGINT, &had_int, NULL);
	sigaction(SIGQUIT, &had_quit, NULL);
	pthread_sigmask(SIG_SETMASK, &had, NULL);
	return r;
}

/* Streams of our own popen(): pclose() waits for their processes. */
struct piped {
	struct piped *next;
	FILE *stream;
	pid_t pid;
};

static struct piped *piped_list;

static FILE *popen_here(const char *command, bool reads, bool closes, struct piped *x)
{
	char *argv[] = { (char *)"sh", (char *)"-c", (char *)command, NULL };
	posix_spawn_file_actions_t actions;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	SEEN(posix_spawn_file_actions_init)(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[reads], reads);
	/* POSIX: streams of earlier popen() calls are closed in the new process. */
	lists_take();
	for (struct piped *p = piped_list; p; p = p->next)
		posix_spawn_file_actions_addclose(&actions, fileno(p->stream));
	lists_leave();
	r = SEEN(posix_spawn)(&x->pid, "/bin/sh", &actions, NULL, argv, environ);
	SEEN(posix_spawn_file_actions_destroy)(&actions);
	REAL(close)(fds[reads]);
	x->stream = r ? NULL : fdopen(fds[!reads], reads ? "r" : "w");
	if (!x->stream)
		REAL(close)(fds[!reads]);
	else if (!closes)
		SEEN(fcntl)(fds[!reads], F_SETFD, 0);
	if (r)
		errno = r;
	return x->stream;
}

SHIM FILE *popen(const char *command, const char *mode)
{
	struct piped *x;
	FILE *f;

	if (environment_is_complete())
		return REAL(popen)(command, mode);
	if ((*mode != 'r' && *mode != 'w') || (mode[1] && strcmp(mode + 1, "e") != 0)) {
		errno = EINVAL;
		return NULL;
	}
	x = calloc(1, sizeof *x);
	if (!x)
		return NULL;
	f = popen_here(command, *mode == 'r', mode[1] == 'e', x);
	if (!f) {
		free(x);
		return NULL;
	}
	lists_take();
	x->next = piped_list;
	piped_list = x;
	lists_leave();
	return f;
}
SHIM_ALIAS(_IO_popen, popen);

SHIM int pclose(FILE *f)
{
	struct piped **p, *x = NULL;
	pid_t pid;

	if (__atomic_load_n(&piped_list, __ATOMIC_RELAXED)) {
		lists_take();
		for (p = &piped_list; *p && (*p)->stream != f; p = &(*p)->next)
			;
		x = *p;
		if (x)
			*p = x->next;
		lists_leave();
	}
	if (!x)
		return REAL(pclose)(f);
	pid = x->pid;
	free(x);
	SEEN(fclose)(f);
	return wait_for(pid);
}
