/* SPDX-License-Identifier: MIT */
#include "fixctl/markup.h"

#include <string.h>

void markup_text(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '<')
			fputs("&lt;", out);
		else if (*s == '>')
			fputs("&gt;", out);
		else if (*s == '&')
			fputs("&amp;", out);
		else if (*s == '"')
			fputs("&quot;", out);
		else if ((unsigned char)*s >= ' ' || *s == '\n')
			putc(*s, out);
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
