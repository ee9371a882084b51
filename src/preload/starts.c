/* SPDX-License-Identifier: MIT */
#include "preload/starts.h"

bool starts_by_bytes;

void starts_add(struct starts *s, const char *text, size_t length)
{
	unsigned char bit = (unsigned char)(1 << s->n);

	s->all[s->n++] = (struct start){ .text = text, .length = length };
	s->begins[0] |= bit; /* the root directory is above all */
	if (length > s->deciding) {
		s->begins[(unsigned char)text[s->deciding]] |= bit;
	} else {
		for (size_t i = 0; i < sizeof s->begins; i++)
			s->begins[i] |= bit;
	}
}

/* Paths of one project begin alike: where they differ it is mostly in the last bytes of what is compared. */
static bool differ(const char *a, const char *b, size_t n)
{
	uint64_t x, y;

	if (n >= sizeof x) {
		memcpy(&x, a + n - sizeof x, sizeof x);
		memcpy(&y, b + n - sizeof y, sizeof y);
		if (x != y)
			return true;
	}
	return memcmp(a, b, n) != 0;
}

bool starts_compare(const struct starts *s, unsigned candidates, const char *path, size_t n)
{
	do {
		const struct start *one = &s->all[__builtin_ctz(candidates)];

		if (!differ(path, one->text, n < one->length ? n : one->length))
			return true;
		candidates &= candidates - 1;
	} while (candidates);
	return false;
}

size_t plain_length_of_any(const char *path)
{
	bool behind = *path != '/';
	size_t n;

	for (n = 0; path[n]; n++) {
		bool odd = (path[n] | 1) == '/';

		if (odd && behind)
			return 0;
		behind = odd;
	}
	return n;
}
