/* SPDX-License-Identifier: MIT */
#include "config/loading.h"

#include <string.h>

#include "base/alloc.h"
#include "base/nearest.h"
#include "config/source.h"

/* What the kernel gives to a program in one argument: MAX_ARG_STRLEN in include/uapi/linux/binfmts.h, with its NUL. */
#define COMMAND_MAX ((32 << 12) - 1)

bool loading_command(struct loading *l, const struct raw_entry *e)
{
	if (e->comment_cut)
		problem(l, e->line, "%s: ' ;' would start a comment; write ';' without a blank before it", e->key);
	else if (strlen(e->value) > COMMAND_MAX)
		problem(l, e->line, "%s: a command has at most %d bytes, and this has %zu; write it to a file, and that here", e->key,
			COMMAND_MAX, strlen(e->value));
	else
		return true;
	return false;
}

void loading_apply(struct loading *l, const struct raw_entry *e, enum key_section section, void *object, struct policy *policy)
{
	const struct key *k = key_find(section, e->key);
	_cleanup_free_ char *wrong = NULL;

	if (section == KEY_FIXD && !strcmp(e->key, "root") && *e->value)
		return; /* load_root() had it */
	if (!k) {
		_cleanup_free_ char *names = key_names(section),
				    *all = xasprintf("%s%s", section == KEY_FIXTURE ? SOURCE_NAMES ", depends, " : "", names),
				    *question = nearest_question(e->key, all);

		problem(l, e->line, "unknown key '%s'%s; allowed here: %s", e->key, question, all);
		return;
	}
	if (k->type == KEY_COMMAND && !loading_command(l, e))
		return;
	wrong = key_parse(k, e->value, l->root, (k->sections & KEY_POLICY) ? policy : object);
	if (wrong)
		problem(l, e->line, "%s", wrong);
}

void loading_section(struct loading *l, const char *name, enum key_section section, void *object, struct policy *policy)
{
	for (size_t i = 0; i < l->raw.n_entries; i++) {
		const struct raw_entry *e = &l->raw.entries[i];

		if (!strcmp(l->raw.sections[e->section].name, name))
			loading_apply(l, e, section, object, policy);
	}
}
