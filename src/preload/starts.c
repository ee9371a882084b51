/* SPDX-License-Identifier: MIT */
#include "preload/starts.h"

void starts_add(struct starts *s, const char *text, size_t length)
{
	s->all[s->n++] = (struct start){ .text = text, .length = length };
	s->begins[0] = true; /* the root directory is above all */
	if (length > s->deciding)
		s->begins[(unsigned char)text[s->deciding]] = true;
	else
		memset(s->begins, true, sizeof s->begins);
}

bool starts_compare(const struct starts *s, const char *path, size_t n)
{
	for (unsigned i = 0; i < s->n; i++) {
		const struct start *one = &s->all[i];

		if (!memcmp(path, one->text, n < one->length ? n : one->length))
			return true;
	}
	return false;
}

size_t plain_length_of_any(const char *path)
{
	bool behind_slash = *path != '/';
	size_t n;

	for (n = 0; path[n]; n++) {
		if (behind_slash && (path[n] | 1) == '/')
			return 0;
		behind_slash = path[n] == '/';
	}
	return n;
}
