/* SPDX-License-Identifier: MIT */
#include "fixctl/terminal.h"

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

struct terminal {
	int master;
	int fds[3]; /* the other side, three times the same */
	int input;
	bool is_terminal; /* ours */
	struct termios before;
};

void terminal_resize(struct terminal *t)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0 || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		ioctl(t->master, TIOCSWINSZ, &size);
}

void terminal_pause(struct terminal *t)
{
	if (t->is_terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}

void terminal_resume(struct terminal *t)
{
	struct termios raw = t->before;

	cfmakeraw(&raw);
	if (t->is_terminal)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	terminal_resize(t);
}

struct terminal *terminal_open(void)
{
	struct terminal *t = xcalloc(1, sizeof *t);
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
	terminal_resume(t);
	return t;
}

const int *terminal_fds(const struct terminal *t)
{
	return t->fds;
}

int terminal_input(const struct terminal *t)
{
	return t->input;
}

int terminal_output(const struct terminal *t)
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

void terminal_pass(struct terminal *t, bool input, bool output)
{
	char end = END_OF_FILE;

	if (output)
		pass(t->master, STDOUT_FILENO);
	if (input && !pass(t->input, t->master)) {
		t->input = -1;
		fd_write_all(t->master, &end, 1);
	}
}

void terminal_close(struct terminal *t)
{
	struct pollfd p = { .fd = t->master, .events = POLLIN };

	/* What it wrote lies in the terminal. */
	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN) && pass(t->master, STDOUT_FILENO))
		;
	terminal_pause(t);
	fd_close(t->fds[0]);
	fd_close(t->master);
	free(t);
}
