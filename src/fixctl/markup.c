/* SPDX-License-Identifier: MIT */
#include "fixctl/markup.h"

#include <string.h>

static void put_char(FILE *out, char c)
{
	if (c == '<')
		fputs("&lt;", out);
	else if (c == '>')
		fputs("&gt;", out);
	else if (c == '&')
		fputs("&amp;", out);
	else if (c == '"')
		fputs("&quot;", out);
	else if ((unsigned char)c >= ' ' || c == '\n')
		putc(c, out);
}

void markup_text(FILE *out, const char *s)
{
	for (; *s; s++)
		put_char(out, *s);
}

void markup_breakable(FILE *out, const char *s)
{
	for (; *s; s++) {
		put_char(out, *s);
		if (strchr("/.:", *s) && s[1] && !strchr("/.:", s[1]))
			fputs("<wbr>", out);
	}
}

void markup_end_of(FILE *out, const char *s, size_t max)
{
	size_t n = strlen(s);

	if (n > max) {
		fputs("\342\200\246", out);
		for (s += n - max; ((unsigned char)*s & 0xc0) == 0x80; s++)
			;
	}
	markup_text(out, s);
}
