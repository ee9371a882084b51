/* SPDX-License-Identifier: MIT */
#include "base/glob.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

#include "base/text.h"

char *glob_literal(const char *text)
{
	struct text t = { 0 };

	for (; *text; text++)
		text_printf(&t, "%s%c", strchr("*?[\\", *text) ? "\\" : "", *text);
	return text_steal(&t);
}

char *glob_text(const char *pattern)
{
	struct text t = { 0 };

	for (; *pattern; pattern++) {
		if (*pattern == '\\' && pattern[1])
			pattern++;
		text_add(&t, pattern, 1);
	}
	return text_steal(&t);
}

/* The length of the bracket expression at `p`; 0: it is none, and its bracket stands for itself. */
static size_t bracket_length(const char *p)
{
	const char *at = p + 1;

	at += *at == '!' || *at == '^';
	at += *at == ']';
	for (; *at && *at != ']'; at++) {
		const char *end;

		if (*at == '\\' && at[1])
			at++;
		else if (*at == '[' && at[1] && strchr(":.=", at[1]) && (end = strstr(at + 2, (char[]){ at[1], ']', 0 })))
			at = end + 1;
	}
	return *at ? (size_t)(at - p) + 1 : 0;
}

#define BRACKET_MAX 256

/* The length of the first element of the pattern, which is no star, if it matches that character; otherwise 0. */
static size_t match_one(const char *p, char c)
{
	char expression[BRACKET_MAX];
	size_t n = *p == '[' ? bracket_length(p) : 0;

	if (n && n < sizeof expression) {
		memcpy(expression, p, n);
		expression[n] = '\0';
		return fnmatch(expression, (char[]){ c, 0 }, 0) == 0 ? n : 0;
	}
	if (*p == '?')
		return 1;
	n = *p == '\\';
	return p[n] && p[n] == c ? n + 1 : 0;
}

/* A star takes as little as it can; when that was not enough, the last one takes one more. */
bool glob_match(const char *pattern, const char *text)
{
	const char *star = NULL, *taken = NULL;

	while (*text) {
		size_t n;

		if (*pattern == '*') {
			star = ++pattern;
			taken = text;
		} else if ((n = match_one(pattern, *text))) {
			pattern += n;
			text++;
		} else if (star) {
			pattern = star;
			text = ++taken;
		} else {
			return false;
		}
	}
	return !pattern[strspn(pattern, "*")];
}

bool glob_match_file(const char *pattern, const char *name)
{
	return (*name != '.' || *pattern == '.' || !strncmp(pattern, "\\.", 2)) && glob_match(pattern, name);
}

bool glob_excludes(char *const *patterns, const char *path)
{
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	for (; patterns && *patterns; patterns++) {
		char pattern[4096];
		const char *start = !strncmp(*patterns, "./", 2) ? *patterns + 2 : *patterns;
		size_t n = strlen(start);

		while (n > 1 && start[n - 1] == '/')
			n--;
		if (n >= sizeof pattern)
			continue;
		memcpy(pattern, start, n);
		pattern[n] = '\0';
		if (glob_match(pattern, strchr(pattern, '/') ? path : name))
			return true;
	}
	return false;
}
