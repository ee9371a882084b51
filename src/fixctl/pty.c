/* SPDX-License-Identifier: MIT */
#include "fixctl/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

#define CHUNK 4096
#define END_OF_FILE 4 /* ^D, as a terminal has it by default */

struct pty {
	int master;
	int fds[3]; /* the other side, three times the same */
	int input;
	/* Typed, and not yet there: it does not read, or does not read so fast. */
	char typed[CHUNK];
	size_t n_typed, at;
	bool in_line;	  /* the last that was typed is no end of a line */
	bool is_terminal; /* ours */
	struct termios before;
};

void pty_resize(struct pty *t)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(t->master, TIOCSWINSZ, &size);
}

void pty_pause(struct pty *t)
{
	if (t->is_terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}

void pty_resume(struct pty *t)
{
	struct termios raw = t->before;

	cfmakeraw(&raw);
	if (t->is_terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	pty_resize(t);
}

struct pty *pty_open(void)
{
	struct pty *t = xcalloc(1, sizeof *t);
	int slave;

	if (openpty(&t->master, &slave, NULL, NULL, NULL) < 0) {
		fprintf(stderr, "fixctl: no terminal for it: %s\n", strerror(errno));
		free(t);
		return NULL;
	}
	fd_set_cloexec(t->master, true);
	fd_set_cloexec(slave, true);
	fcntl(t->master, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 3; i++)
		t->fds[i] = slave;
	t->input = STDIN_FILENO;
	t->is_terminal = tcgetattr(STDIN_FILENO, &t->before) == 0;
	if (t->is_terminal)
		tcsetattr(slave, TCSANOW, &t->before);
	pty_resume(t);
	return t;
}

const int *pty_fds(const struct pty *t)
{
	return t->fds;
}

void pty_poll(const struct pty *t, struct pollfd p[2])
{
	bool waits = t->at < t->n_typed;

	p[0] = (struct pollfd){ .fd = waits ? -1 : t->input, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = t->master, .events = (short)(POLLIN | (waits ? POLLOUT : 0)) };
}

/* False: nothing has come. */
static bool pty_show(struct pty *t)
{
	char buf[CHUNK];
	ssize_t n = read(t->master, buf, sizeof buf);

	return n > 0 && fd_write_all(STDOUT_FILENO, buf, (size_t)n) == 0;
}

static void pty_type(struct pty *t)
{
	ssize_t n = write(t->master, t->typed + t->at, t->n_typed - t->at);

	if (n > 0)
		t->at += (size_t)n;
}

/* The end is typed, too. */
static void pty_take(struct pty *t)
{
	ssize_t n = read(t->input, t->typed, sizeof t->typed);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	t->at = 0;
	if (n > 0) {
		t->n_typed = (size_t)n;
		t->in_line = t->typed[n - 1] != '\n';
		return;
	}
	t->input = -1;
	/* In a line the first one only ends that. */
	t->typed[0] = t->typed[1] = END_OF_FILE;
	t->n_typed = t->in_line ? 2 : 1;
}

void pty_pass(struct pty *t, const struct pollfd p[2])
{
	if (p[1].revents & ~POLLOUT)
		pty_show(t);
	if (p[0].revents)
		pty_take(t);
	if (t->at < t->n_typed)
		pty_type(t);
}

void pty_close(struct pty *t)
{
	struct pollfd p = { .fd = t->master, .events = POLLIN };

	/* What it wrote lies in the terminal. */
	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN) && pty_show(t))
		;
	pty_pause(t);
	fd_close(t->fds[0]);
	fd_close(t->master);
	free(t);
}
