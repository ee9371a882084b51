/* SPDX-License-Identifier: MIT */
/* What a client registers: a fixture that no file names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "config/fixture.h"

#define REGISTERED_NAME_MAX 180

static bool valid_registered_name(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f || strchr("[]", name[i]))
			return false;
	}
	return n >= 1 && n <= REGISTERED_NAME_MAX;
}

int config_define(const struct config *c, const char *root, const char *name, char *const *settings, struct fixture **out,
		  struct text *problems)
{
	struct loading l = { .file = name, .root = root, .problems = problems };
	size_t n = list_count(settings), kept = 0;
	struct raw_entry *entries = xcalloc(n, sizeof *entries);
	const struct raw_entry **all = xcalloc(n, sizeof *all);
	struct fixture *f = fixture_new(name, 0, &c->policy);

	f->source = SOURCE_CLIENT;
	f->registered = true;
	f->registered_as = list_dup(settings);
	f->policy.rebuild = REBUILD_LAZY;
	f->policy.watch_by = WATCH_BY_MTIME;
	/* Commands and files of the operator are for the operator's fixtures. */
	list_free(f->policy.watch);
	free(f->policy.check);
	f->policy.watch = NULL;
	f->policy.check = NULL;
	f->all_env = xcalloc(1, sizeof *f->all_env);
	if (!valid_registered_name(name))
		problem(&l, 0, "a name has 1 to %d bytes, without blanks and brackets", REGISTERED_NAME_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *equals = strchr(settings[i], '=');

		entries[i].key = equals ? xstrndup(settings[i], (size_t)(equals - settings[i])) : xstrdup(settings[i]);
		entries[i].value = xstrdup(equals ? equals + 1 : "");
		all[i] = &entries[i];
		for (size_t k = 0; k < i; k++) {
			if (!strcmp(entries[k].key, entries[i].key))
				problem(&l, 0, "key '%s' is there twice", entries[i].key);
		}
		loading_apply(&l, &entries[i], KEY_REGISTERED, f, &f->policy);
	}
	for (size_t i = 0; f->env && f->env[i]; i++)
		list_append(&f->all_env, xstrdup(f->env[i]));
	f->settings = fixture_digest(root, all, n);
	/* Another max-age is a reason to look, not to build again. */
	for (size_t i = 0; i < n; i++) {
		const struct key *k = key_find(KEY_REGISTERED, all[i]->key);

		if (k && !(k->sections & KEY_POLICY))
			all[kept++] = all[i];
	}
	f->section = fixture_digest(root, all, kept);
	for (size_t i = 0; i < n; i++) {
		free(entries[i].key);
		free(entries[i].value);
	}
	free(entries);
	free(all);
	if (l.failed) {
		fixture_free(f);
		return -EINVAL;
	}
	*out = f;
	return 0;
}
