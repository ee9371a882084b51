/* SPDX-License-Identifier: MIT */
#include "base/path.h"

#include <string.h>

/* Adds the components of `path` to the `*n` bytes at `out`. */
static bool add_components(const char *path, char *out, size_t room, size_t *n)
{
	while (*path) {
		size_t length = strcspn(path, "/");

		if (length == 2 && path[0] == '.' && path[1] == '.') {
			while (*n > 0 && out[--*n] != '/')
				;
		} else if (length && !(length == 1 && path[0] == '.')) {
			if (*n + 1 + length >= room)
				return false;
			out[(*n)++] = '/';
			memcpy(out + *n, path, length);
			*n += length;
		}
		path += length;
		path += *path == '/';
	}
	return true;
}

bool path_normalize(const char *base, const char *path, char *out, size_t room)
{
	size_t n = 0;

	if (room < 2 || (*path != '/' && !add_components(base, out, room, &n)) || !add_components(path, out, room, &n))
		return false;
	if (n == 0)
		out[n++] = '/';
	out[n] = '\0';
	return true;
}

const char *path_below(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	if (n == 1)
		return path; /* everything is below / */
	return strncmp(path, prefix, n) == 0 && (path[n] == '/' || path[n] == '\0') ? path + n : NULL;
}

const char *path_behind(const char *path, const char *name)
{
	const char *p = path;
	size_t n = strlen(name);

	while (!strncmp(p, "../", 3))
		p += 3;
	return p != path && !strncmp(p, name, n) && (p[n] == '/' || !p[n]) ? p + n : NULL;
}
