/* SPDX-License-Identifier: MIT */
#include "base/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"

#define LONGEST 64

static size_t least(size_t a, size_t b, size_t c)
{
	size_t ab = a < b ? a : b;

	return ab < c ? ab : c;
}

static bool same(char a, char b)
{
	return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/* The one who typed it may have stopped there. */
static bool is_begin(const char *word, size_t n, const char *of, size_t m)
{
	return n > 1 && n < m && !strncasecmp(word, of, n);
}

/* Letters to be put in, left out, replaced, or swapped with the next one (optimal string alignment), small or capital. */
static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
	size_t rows[3][LONGEST + 1], *before = rows[0], *last = rows[1], *row = rows[2];

	for (size_t k = 0; k <= m; k++)
		last[k] = k;
	for (size_t i = 1; i <= n; i++) {
		size_t *free_row = before;

		row[0] = i;
		for (size_t k = 1; k <= m; k++) {
			row[k] = least(last[k] + 1, row[k - 1] + 1, last[k - 1] + !same(a[i - 1], b[k - 1]));
			if (i > 1 && k > 1 && same(a[i - 1], b[k - 2]) && same(a[i - 2], b[k - 1]))
				row[k] = least(row[k], before[k - 2] + 1, row[k]);
		}
		before = last;
		last = row;
		row = free_row;
	}
	return last[m];
}

char *nearest(const char *word, const char *list)
{
	size_t n = strlen(word), best = n / 3 + 1;
	char *found = NULL;

	for (const char *p = list; n <= LONGEST && *p;) {
		size_t m, d;

		p += strspn(p, ", ");
		m = strcspn(p, ", ");
		d = is_begin(word, n, p, m) ? 1 : m && m <= LONGEST ? distance(word, n, p, m) : best + 1;
		/* Something must be the same. */
		if (d <= best && d < (n > m ? n : m) && (!found || d < best)) {
			free(found);
			found = xstrndup(p, m);
			best = d;
		}
		p += m;
	}
	return found;
}

char *nearest_question(const char *word, const char *list)
{
	_cleanup_free_ char *meant = nearest(word, list);

	return meant ? xasprintf(" (did you mean '%s'?)", meant) : xstrdup("");
}
