/* SPDX-License-Identifier: MIT */
#include "base/template.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

char *template_expand(const char *s, const char *(*value)(const char *name, void *arg), void *arg, char **wrong)
{
	struct text t = { 0 };
	const char *open;

	while ((open = strstr(s, "${"))) {
		const char *close = strchr(open, '}'), *v;
		_cleanup_free_ char *name = close ? xstrndup(open + 2, (size_t)(close - open) - 2) : NULL;

		v = name ? value(name, arg) : NULL;
		if (!v) {
			*wrong = name ? xasprintf("${%s} is not known here", name) : xasprintf("'%s' has no closing brace", open);
			text_deinit(&t);
			return NULL;
		}
		text_add(&t, s, (size_t)(open - s));
		text_puts(&t, v);
		s = close + 1;
	}
	text_puts(&t, s);
	return text_steal(&t);
}
