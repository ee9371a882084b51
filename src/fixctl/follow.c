/* SPDX-License-Identifier: MIT */
#include "fixctl/follow.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixctl/fixctl.h"

void follow_init(struct follow *f)
{
	f->ignores_children = signal(SIGCHLD, SIG_DFL) == SIG_IGN;
}

/* What we are sent is meant for the command. From before there is one until it has ended it waits for follow(). */
void follow_begin(struct follow *f)
{
	static const int ours[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };

	sigfillset(&f->held);
	for (size_t i = 0; i < ELEMENTSOF(ours); i++)
		sigdelset(&f->held, ours[i]);
	sigprocmask(SIG_BLOCK, &f->held, &f->mask);
}

void follow_restore(const struct follow *f)
{
	if (f->ignores_children)
		signal(SIGCHLD, SIG_IGN);
	sigprocmask(SIG_SETMASK, &f->mask, NULL);
}

int follow_execute(const struct follow *f, char **argv)
{
	int err;

	if (f->ignores_children)
		signal(SIGCHLD, SIG_IGN);
	execvp(argv[0], argv);
	err = errno;
	fprintf(stderr, "fixctl: %s: %s\n", argv[0], strerror(err));
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

/* The terminal has sent these to the command already. */
static bool is_of_terminal(const siginfo_t *si)
{
	switch (si->si_signo) {
	case SIGHUP:
		/* Of a hangup it tells the leader of the session only. */
		return si->si_code == SI_KERNEL && getsid(0) != getpid();
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGCONT:
	case SIGWINCH:
		return si->si_code == SI_KERNEL;
	default:
		return false;
	}
}

/* At a terminal whose shell waits for us it must hear that the command has stopped. */
static bool shell_wants_to_know(int signal)
{
	return signal != SIGSTOP || tcgetpgrp(STDIN_FILENO) == getpgrp() || tcgetpgrp(STDERR_FILENO) == getpgrp();
}

int follow(struct follow *f, pid_t pid, bool (*lost)(void *arg), void *arg)
{
	bool is_lost = false;
	siginfo_t si;
	int status;

	for (;;) {
		pid_t done = waitpid(pid, &status, WNOHANG | WUNTRACED);

		if (done == pid && WIFEXITED(status))
			return is_lost ? EXIT_REFUSED : WEXITSTATUS(status);
		if (done == pid && WIFSIGNALED(status))
			return is_lost ? EXIT_REFUSED : EXIT_SIGNAL + WTERMSIG(status);
		if (done == pid && WIFSTOPPED(status) && shell_wants_to_know(WSTOPSIG(status))) {
			raise(SIGSTOP);
			kill(pid, SIGCONT);
			continue;
		}
		if (lost && !is_lost && lost(arg)) {
			is_lost = true;
			kill(pid, SIGKILL);
			continue;
		}
		if (sigwaitinfo(&f->held, &si) > 0 && si.si_signo != SIGCHLD && !is_of_terminal(&si))
			kill(pid, si.si_signo);
	}
}
