/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/path.h"
#include "config/fixture.h"
#include "config/graph.h"
#include "config/identity.h"
#include "config/loading.h"
#include "config/remote.h"
#include "image/region.h"

static void set_defaults(struct config *c)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	uint64_t group = cgroup_memory_max();

	c->jobs = (uint64_t)get_nprocs();
	c->memory_max = pages > 0 ? (uint64_t)pages * 4096 / 2 : UINT64_C(1) << 30;
	/* The kernel kills at the limit of a control group. */
	if (group / 2 < c->memory_max)
		c->memory_max = group / 2;
	c->address_base = REGION_BASE;
	c->log_level = LOG_LEVEL_INFO;
	c->idle_exit = DURATION_NONE;
	c->remote_timeout = 2 * NSEC_PER_SEC;
	c->user_memory_max = SIZE_NONE;
	c->user_images_max = 1024;
	c->user_builds_max = 64;
	c->user_connections_max = 512;
	c->policy = (struct policy){
		.max_age = 600 * NSEC_PER_SEC,
		.timeout = 60 * NSEC_PER_SEC,
		.check_timeout = 10 * NSEC_PER_SEC,
		.teardown_timeout = 10 * NSEC_PER_SEC,
		.retry_after = DURATION_NONE,
		.memory_max = SIZE_NONE,
	};
}

/* Links are left in: where they lead may be another file at the next reload. */
static char *absolute_path(const char *path)
{
	_cleanup_free_ char *here = *path == '/' ? NULL : getcwd(NULL, 0);

	return here ? xasprintf("%s/%s", here, path) : xstrdup(path);
}

static void make_real(char **path)
{
	char *real = realpath(*path, NULL);

	if (!real)
		return;
	free(*path);
	*path = real;
}

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

/* `root` first: the other paths of the file start there. */
static void load_root(struct loading *l)
{
	struct config *c = l->config;
	_cleanup_free_ char *home = directory_of(c->file);
	struct stat st;

	c->root = xstrdup(home);
	make_real(&c->root);
	for (size_t i = 0; i < l->raw.n_entries; i++) {
		const struct raw_entry *e = &l->raw.entries[i];

		if (strcmp(l->raw.sections[e->section].name, "fixd") || strcmp(e->key, "root") || !*e->value)
			continue;
		free(c->root);
		c->root = *e->value == '/' ? xstrdup(e->value) : xasprintf("%s/%s", home, e->value);
		if (stat(c->root, &st) < 0 || !S_ISDIR(st.st_mode))
			problem(l, e->line, "root = %s: expected an existing directory", e->value);
		else
			make_real(&c->root);
	}
}

/* One path cannot show two fixtures. */
static void check_paths_apart(struct loading *l)
{
	struct config *c = l->config;

	for (size_t i = 0; i < c->n_fixtures; i++) {
		for (size_t k = 0; c->fixtures[i]->path && k < c->n_fixtures; k++) {
			const struct fixture *in = c->fixtures[i], *out = c->fixtures[k];

			if (i == k || !in->path || !out->path || !path_below(in->path, out->path) ||
			    (i < k && !strcmp(in->path, out->path)))
				continue;
			problem(l, raw_line(&l->raw, in->line, "path"),
				"path = %s lies in the path of [fixture %s], %s; paths must lie apart", in->path, out->name, out->path);
		}
	}
}

static void unknown_section(struct loading *l, const struct raw_section *s)
{
	size_t n = strcspn(s->name, " ");
	_cleanup_free_ char *kind = xstrndup(s->name, n), *meant = nearest(kind, "fixd, policy, remote, fixture");

	if (meant)
		problem(l, s->line, "unknown section [%s] (did you mean [%s%s]?); allowed: [fixd], [policy], [remote], [fixture NAME]",
			s->name, meant, s->name + n);
	else
		problem(l, s->line, "unknown section [%s]; allowed: [fixd], [policy], [remote], [fixture NAME]", s->name);
}

static void load_sections(struct loading *l)
{
	for (size_t i = 0; i < l->raw.n_sections; i++) {
		const struct raw_section *s = &l->raw.sections[i];

		if (!strncmp(s->name, "fixture ", 8))
			fixture_load(l, i, s->name + 8);
		else if (!strcmp(s->name, "fixture"))
			problem(l, s->line, "[fixture] has no name; write [fixture NAME]");
		else if (strcmp(s->name, "fixd") && strcmp(s->name, "policy") && strcmp(s->name, "remote"))
			unknown_section(l, s);
	}
}

static void resolve_people(struct loading *l)
{
	struct config *c = l->config;

	for (size_t i = 0; c->allow_user_names && c->allow_user_names[i]; i++) {
		uid_t uid;
		gid_t gid;

		if (identity_find_user(c->allow_user_names[i], &uid, &gid) < 0) {
			problem(l, raw_line_in(&l->raw, "fixd", "allow-users"), "allow-users: there is no user '%s'",
				c->allow_user_names[i]);
			continue;
		}
		c->allow_users = xrealloc(c->allow_users, (c->n_allow_users + 1) * sizeof *c->allow_users);
		c->allow_users[c->n_allow_users++] = uid;
	}
	for (size_t i = 0; c->allow_group_names && c->allow_group_names[i]; i++) {
		gid_t gid;

		if (identity_find_group(c->allow_group_names[i], &gid) < 0) {
			problem(l, raw_line_in(&l->raw, "fixd", "allow-groups"), "allow-groups: there is no group '%s'",
				c->allow_group_names[i]);
			continue;
		}
		c->allow_groups = xrealloc(c->allow_groups, (c->n_allow_groups + 1) * sizeof *c->allow_groups);
		c->allow_groups[c->n_allow_groups++] = gid;
	}
}

static void load_remote(struct loading *l)
{
	_cleanup_free_ char *wrong = NULL;
	const char *keys;

	if (!raw_line_in(&l->raw, "remote", ""))
		return;
	loading_section(l, "remote", KEY_REMOTE, l->config, NULL);
	wrong = remote_complete(l->config, &keys);
	if (wrong)
		problem(l, raw_line_in(&l->raw, "remote", keys), "%s", wrong);
}

/* A name of a socket has so many bytes at most (unix(7)). */
static void check_socket(struct loading *l)
{
	const char *path = l->config->socket;
	size_t max = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;

	if (path && strlen(path) > max)
		problem(l, raw_line_in(&l->raw, "fixd", "socket"), "socket = %s: expected a path of at most %zu bytes, and this has %zu",
			path, max, strlen(path));
}

/* Dependencies have got their fixtures by now. */
static void check_remotes(struct loading *l)
{
	for (size_t i = 0; i < l->config->n_fixtures; i++) {
		const struct fixture *f = l->config->fixtures[i];
		const char *keys = "";
		_cleanup_free_ char *wrong = f->remote ? remote_check(l->config, f, &keys) : NULL;

		if (wrong)
			problem(l, raw_line(&l->raw, f->line, keys), "[fixture %s] %s", f->name, wrong);
	}
}

static int fixtures_by_name(const void *a, const void *b)
{
	const struct fixture *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int config_load(const char *path, struct config **out, struct text *problems)
{
	struct loading l = { .config = xcalloc(1, sizeof *l.config), .problems = problems };
	struct config *c = l.config;
	int r;

	l.file = c->file = absolute_path(path);
	r = raw_read(c->file, &l.raw, problems);
	l.failed = r < 0;
	/* What could be understood may have other mistakes. */
	if (r == 0 || r == -EINVAL) {
		set_defaults(c);
		load_root(&l);
		l.root = c->root;
		loading_section(&l, "fixd", KEY_FIXD, c, NULL);
		check_socket(&l);
		loading_section(&l, "policy", KEY_POLICY, NULL, &c->policy);
		load_remote(&l);
		load_sections(&l);
		resolve_people(&l);
		if (c->n_fixtures)
			qsort(c->fixtures, c->n_fixtures, sizeof *c->fixtures, fixtures_by_name);
		check_paths_apart(&l);
		if (graph_check(c, problems) < 0)
			l.failed = true;
		check_remotes(&l);
	}
	raw_deinit(&l.raw);
	if (l.failed) {
		config_free(c);
		return r < 0 ? r : -EINVAL;
	}
	*out = c;
	return 0;
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (size_t i = 0; i < c->n_fixtures; i++)
		fixture_free(c->fixtures[i]);
	free(c->fixtures);
	free(c->allow_users);
	free(c->allow_groups);
	key_free_fields(KEY_FIXD, c);
	key_free_fields(KEY_REMOTE, c);
	list_free(c->remote_reads);
	list_free(c->remote_options);
	key_free_fields(KEY_POLICY, &c->policy);
	free(c->file);
	free(c);
	return NULL;
}
