/* SPDX-License-Identifier: MIT */
#include "fixctl/terminal.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/alloc.h"
#include "base/text.h"
#include "base/units.h"
#include "base/utf8.h"

#define MANY 10000

static size_t terminal_size_of(unsigned short told, const char *variable, size_t otherwise)
{
	const char *s = getenv(variable);
	uint64_t n;

	if (told)
		return told;
	return s && parse_u64(s, 10, MANY, &n) == 0 && n ? (size_t)n : otherwise;
}

size_t terminal_width(void)
{
	struct winsize w = { 0 };

	if (!isatty(STDOUT_FILENO))
		return 0;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
	return terminal_size_of(w.ws_col, "COLUMNS", 80);
}

size_t terminal_height(void)
{
	struct winsize w = { 0 };

	if (!isatty(STDOUT_FILENO))
		return 0;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &w);
	return terminal_size_of(w.ws_row, "LINES", 24);
}

/* Of one character, or of one byte that is none. */
static size_t terminal_step(const char *s)
{
	size_t n = utf8_length(s, strnlen(s, 4));

	return n ? n : 1;
}

size_t terminal_width_of(const char *s, size_t length)
{
	wchar_t c;
	int n = length > 1 && mbtowc(&c, s, length) == (int)length ? wcwidth(c) : 1;

	return n < 0 ? 1 : (size_t)n;
}

static size_t width_of_first(const char *s)
{
	return terminal_width_of(s, terminal_step(s));
}

size_t terminal_columns(const char *s)
{
	size_t columns = 0;

	for (; *s && *s != '\n'; s += terminal_step(s))
		columns += width_of_first(s);
	return columns;
}

static void add_shown(struct text *t, const char *s)
{
	size_t n = utf8_length(s, strnlen(s, 4));
	unsigned char c = (unsigned char)*s;

	/* The second range of control characters, too, begins with this byte. */
	if (n == 0 || c < ' ' || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0))
		text_puts(t, c == '\t' ? " " : "?");
	else
		text_add(t, s, n);
}

/* ESC [ 3 1 m and the like; 0: it is something else. */
static size_t color_length(const char *s, size_t n)
{
	size_t k = 2;

	if (n < 3 || s[0] != '\033' || s[1] != '[')
		return 0;
	while (k < n && (isdigit((unsigned char)s[k]) || s[k] == ';'))
		k++;
	return k < n && s[k] == 'm' ? k + 1 : 0;
}

char *terminal_plain(const char *s, size_t n, bool lines)
{
	struct text t = { 0 };

	text_puts(&t, "");
	for (const char *end = s + n; s < end;) {
		size_t size = lines && *s == '\n' ? 1 : lines ? color_length(s, (size_t)(end - s)) : 0;

		if (size)
			text_add(&t, s, size);
		else
			add_shown(&t, s);
		s += size ? size : terminal_step(s);
	}
	return text_steal(&t);
}

char *terminal_fit(const char *s, size_t width)
{
	size_t left = width && terminal_columns(s) > width ? width - 1 : SIZE_MAX;
	bool cut = left != SIZE_MAX;
	struct text t = { 0 };

	for (; *s && *s != '\n' && left >= width_of_first(s); s += terminal_step(s)) {
		left -= width_of_first(s);
		add_shown(&t, s);
	}
	if (cut)
		text_puts(&t, "…");
	return text_steal(&t);
}

char *terminal_fit_name(const char *s, size_t width)
{
	size_t columns = terminal_columns(s), back = width / 2;
	_cleanup_free_ char *front = NULL, *end = NULL;

	if (width == 0 || columns <= width)
		return terminal_fit(s, width);
	front = terminal_fit(s, width - back);
	for (; columns > back; s += terminal_step(s))
		columns -= width_of_first(s);
	end = terminal_fit(s, 0);
	return xasprintf("%s%s", front, end);
}

/* Where the explanation of an option begins; 0: the line is none of a list. */
static size_t hanging_indent(const char *line)
{
	const char *gap = *line == ' ' ? strstr(line + strspn(line, " "), "  ") : NULL;

	return gap ? (size_t)(gap - line) + strspn(gap, " ") : 0;
}

static void print_wrapped(const char *line, size_t width)
{
	size_t indent = hanging_indent(line), room = width;

	if (indent + 20 > width)
		indent = 4;
	while (strlen(line) > room) {
		size_t cut = room;

		while (cut > 0 && line[cut] != ' ')
			cut--;
		if (cut <= strspn(line, " "))
			break;
		printf("%.*s\n%*s", (int)cut, line, (int)indent, "");
		line += cut + strspn(line + cut, " ");
		room = width - indent;
	}
	puts(line);
}

void terminal_print(const char *s)
{
	size_t width = terminal_width();
	char *line = terminal_fit(s, 0);

	if (width)
		print_wrapped(line, width);
	else
		puts(line);
	free(line);
}

/* Does this line go on with what the one before it says? */
static bool goes_on(const char *line, bool first, bool behind_words)
{
	if (strspn(line, " ") >= 8)
		return line[strspn(line, " ")] != '-';
	return !first && behind_words && *line && *line != '\n' && *line != ' ';
}

void terminal_print_help(const char *text, size_t width)
{
	struct text t = { 0 };
	bool first = true; /* the line in t is that */

	if (width == 0) {
		puts(text);
		return;
	}
	while (*text) {
		size_t n = strcspn(text, "\n");

		if (t.data && goes_on(text, first, *t.data && *t.data != ' ')) {
			text_puts(&t, " ");
			text_add(&t, text + strspn(text, " "), n - strspn(text, " "));
		} else {
			if (t.data) {
				print_wrapped(t.data, width);
				first = false;
			}
			text_deinit(&t);
			text_add(&t, text, n);
		}
		text += n + (text[n] == '\n');
	}
	print_wrapped(t.data, width);
	text_deinit(&t);
}
