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

int pty_input(const struct pty *t)
{
	return t->input;
}

int pty_output(const struct pty *t)
{
	return t->master;
}

/* False: there is nothing, now or ever. */
static bool pass(int from, int to)
{
	char buf[CHUNK];
	ssize_t n = read(from, buf, sizeof buf);

	return n > 0 && fd_write_all(to, buf, (size_t)n) == 0;
}

void pty_pass(struct pty *t, bool input, bool output)
{
	char end = END_OF_FILE;

	if (output)
		pass(t->master, STDOUT_FILENO);
	if (input && !pass(t->input, t->master)) {
		t->input = -1;
		fd_write_all(t->master, &end, 1);
	}
}

void pty_close(struct pty *t)
{
	struct pollfd p = { .fd = t->master, .events = POLLIN };

	/* What it wrote lies in the terminal. */
	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN) && pass(t->master, STDOUT_FILENO))
		;
	pty_pause(t);
	fd_close(t->fds[0]);
	fd_close(t->master);
	free(t);
}
