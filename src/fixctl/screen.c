/* SPDX-License-Identifier: MIT */
#include "fixctl/screen.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "fixctl/terminal.h"

/* Bytes of the first character, or of a sequence that sets a colour, which takes no column. */
static size_t screen_step(const char *s, size_t n, size_t *columns)
{
	size_t length = 2;

	if (n > 1 && s[0] == '\033' && s[1] == '[') {
		while (length < n && (s[length] < '@' || s[length] > '~'))
			length++;
		return length < n ? length + 1 : n;
	}
	length = utf8_length(s, n);
	*columns += terminal_width_of(s, length);
	return length ? length : 1;
}

/* Bytes of the line that fit; its colours end with it. */
static size_t fit(const char *line, size_t n, size_t width)
{
	size_t at = 0, columns = 0;

	while (at < n) {
		size_t length = screen_step(line + at, n - at, &columns);

		if (columns > width)
			break;
		at += length;
	}
	return at;
}

static size_t lines_of(const char *text)
{
	size_t n = 0;

	for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
		n++;
	return n;
}

/* Over what stands there: each line is cleared behind its end, and the rest when all are drawn. */
static void screen_draw(FILE *out, const char *text)
{
	size_t width = terminal_width(), height = terminal_height(), lines = lines_of(text);

	fputs("\033[H", out);
	for (size_t row = 1; *text && row < height; row++, lines--) {
		size_t n = strcspn(text, "\n");

		if (row + 1 == height && lines > 1) {
			fprintf(out, "… %zu more\033[K\r\n", lines);
			break;
		}

		fprintf(out, "%.*s\033[0m\033[K\r\n", (int)fit(text, n, width), text);
		text += n + (text[n] == '\n');
	}
	fputs("\033[J", out);
	fflush(out);
}

/* What is printed goes to where stdout points: into memory, and as one piece to the terminal. */
static int show_on_terminal(int (*show)(void *arg), void *arg)
{
	_cleanup_free_ char *text = NULL;
	FILE *terminal = stdout;
	size_t n;
	int code;

	stdout = open_memstream(&text, &n);
	if (!stdout)
		abort();
	code = show(arg);
	fclose(stdout);
	stdout = terminal;
	/* What went wrong has been said, below what is still drawn. */
	if (code == 0)
		screen_draw(stdout, text);
	return code;
}

int screen_watch(int (*show)(void *arg), void *arg)
{
	const struct timespec second = { .tv_sec = 1 };
	bool terminal = terminal_width() > 0;
	sigset_t signals;
	int code, signal;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	/* Drawn anew at once. */
	sigaddset(&signals, SIGWINCH);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	if (terminal)
		fputs("\033[2J", stdout);
	do {
		code = terminal ? show_on_terminal(show, arg) : show(arg);
		fflush(stdout);
		signal = code ? SIGINT : sigtimedwait(&signals, NULL, &second);
	} while (signal < 0 || signal == SIGWINCH);
	return code;
}
