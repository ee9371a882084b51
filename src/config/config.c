/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/path.h"
#include "config/graph.h"
#include "config/identity.h"
#include "config/keys.h"
#include "config/raw.h"
#include "config/remote.h"
#include "config/service.h"
#include "image/region.h"
#include "wire/wire.h"

/* The keys that say where a fixture comes from: exactly one in a section. */
static const char *const source_keys[SOURCE_COUNT] = {
	[SOURCE_FILE] = "file", [SOURCE_DIRECTORY] = "directory", [SOURCE_COMMAND] = "command", [SOURCE_PLUGIN] = "plugin",
	[SOURCE_TREE] = "tree", [SOURCE_SERVICE] = "service",	  [SOURCE_PROCESS] = "process", [SOURCE_CLIENT] = "client"
};
#define SOURCE_NAMES "file, directory, command, plugin, tree, service, process, client"

#define REGISTERED_NAME_MAX 180

struct loading {
	struct config *config;
	const char *file; /* for messages */
	const char *root; /* where relative paths start */
	struct raw_file raw;
	struct text *problems;
	bool failed;
};

#define problem(l, line, ...)                                                \
	do {                                                                 \
		config_problem((l)->problems, (l)->file, line, __VA_ARGS__); \
		(l)->failed = true;                                          \
	} while (0)

const char *source_name(int source)
{
	return source_keys[source];
}

bool source_keeps_running(int source)
{
	return source == SOURCE_SERVICE || source == SOURCE_PROCESS;
}

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

static char **list_dup(char *const *list)
{
	char **copy = xcalloc(list_count(list) + 1, sizeof *copy);

	for (size_t i = 0; list && list[i]; i++)
		copy[i] = xstrdup(list[i]);
	return copy;
}

static void list_append(char ***list, char *s)
{
	size_t n = list_count(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = s;
	(*list)[n + 1] = NULL;
}

static struct policy policy_dup(const struct policy *p)
{
	struct policy copy = *p;

	copy.watch = list_dup(p->watch);
	copy.check = p->check ? xstrdup(p->check) : NULL;
	return copy;
}

/* Parses one entry; `policy` is the object of keys that [policy] also knows. */
static void apply(struct loading *l, const struct raw_entry *e, enum key_section section, void *object, struct policy *policy)
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
	if (k->type == KEY_COMMAND && e->comment_cut) {
		problem(l, e->line, "%s: ' ;' would start a comment; write ';' without a blank before it", k->name);
		return;
	}
	wrong = key_parse(k, e->value, l->root, (k->sections & KEY_POLICY) ? policy : object);
	if (wrong)
		problem(l, e->line, "%s", wrong);
}

static void load_section(struct loading *l, const char *name, enum key_section section, void *object, struct policy *policy)
{
	for (size_t i = 0; i < l->raw.n_entries; i++) {
		const struct raw_entry *e = &l->raw.entries[i];

		if (!strcmp(l->raw.sections[e->section].name, name))
			apply(l, e, section, object, policy);
	}
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

static int source_of(const char *key)
{
	for (int i = 1; i < SOURCE_COUNT; i++) {
		if (!strcmp(key, source_keys[i]))
			return i;
	}
	return SOURCE_NONE;
}

/* Behind what may stand before the program: variables, and exec. */
static const char *program_of(const char *command)
{
	for (;;) {
		size_t name = strspn(command, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
		size_t n = strcspn(command, " \t\n;|&<>()$`\"'\\*?[#{}");

		if (!strchr(" \t", command[n]) || !command[n] || (command[name] != '=' && (n != 4 || strncmp(command, "exec", 4) != 0)))
			return command;
		command += n + strspn(command + n, " \t");
	}
}

/* What a fixture is made from, as the watcher wants it: a pattern, also where its path has what would be wildcards. */
static void add_input(struct fixture *f, const char *path)
{
	list_append(&f->inputs, glob_literal(path));
}

/* The program a command starts, if its first word is one: it is an input too. */
static void add_executable(struct fixture *f, const char *root)
{
	const char *program = program_of(f->what);
	size_t n = strcspn(program, " \t\n;|&<>()$`\"'\\*?[#~=%{}");
	_cleanup_free_ char *word = xstrndup(program, n);
	const char *path = getenv("PATH");

	if (n == 0 || (program[n] && !strchr(" \t\n;|&<>", program[n])))
		return;
	if (strchr(word, '/')) {
		_cleanup_free_ char *file = *word == '/' ? xstrdup(word) : xasprintf("%s/%s", root, word);

		add_input(f, file);
		return;
	}
	for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += strcspn(p, ":"), p += *p == ':') {
		_cleanup_free_ char *candidate = xasprintf("%.*s/%s", (int)strcspn(p, ":"), p, word);

		if (*p == '/' && access(candidate, X_OK) == 0) {
			add_input(f, candidate);
			return;
		}
	}
}

bool source_is_command(int source)
{
	return source == SOURCE_COMMAND || source == SOURCE_TREE || source_keeps_running(source);
}

static void load_source(struct loading *l, struct fixture *f, const struct raw_entry *e)
{
	const char *root = l->config->root;
	char *colon;

	if (f->source != SOURCE_NONE) {
		problem(l, e->line, "%s and %s: exactly one source is allowed", source_keys[f->source], e->key);
		return;
	}
	f->source = source_of(e->key);
	f->source_line = e->line;
	if (!*e->value) {
		problem(l, e->line, "%s has no value", e->key);
		return;
	}
	if (f->source == SOURCE_CLIENT) {
		if (strcmp(e->value, "yes"))
			problem(l, e->line, "client = %s: expected yes", e->value);
		return;
	}
	if (source_is_command(f->source)) {
		if (e->comment_cut)
			problem(l, e->line, "%s: ' ;' would start a comment; write ';' without a blank before it", e->key);
		f->what = xstrdup(e->value);
		add_executable(f, root);
		return;
	}
	f->what = *e->value == '/' ? xstrdup(e->value) : xasprintf("%s/%s", root, e->value);
	colon = f->source == SOURCE_PLUGIN ? strrchr(f->what, ':') : NULL;
	if (colon && !strchr(colon, '/')) {
		f->symbol = xstrdup(colon + 1);
		*colon = '\0';
		if (!*f->symbol)
			problem(l, e->line, "plugin = %s: expected FILE or FILE:FUNCTION", e->value);
	}
	add_input(f, f->what);
}

static struct depend parse_depend(const char *s)
{
	const char *bracket = strchr(s, '[');
	size_t n = strlen(s);
	struct depend d = { 0 };

	if (bracket && s[n - 1] == ']') {
		d.name = xstrndup(s, (size_t)(bracket - s));
		d.param = xstrndup(bracket + 1, n - 2 - (size_t)(bracket - s));
	} else {
		d.name = xstrdup(s);
	}
	return d;
}

static void load_depends(struct fixture *f, const struct raw_entry *e)
{
	char **names = list_split(e->value);

	f->depends_line = e->line;
	f->n_depends = list_count(names);
	f->depends = xcalloc(f->n_depends, sizeof *f->depends);
	for (size_t i = 0; i < f->n_depends; i++)
		f->depends[i] = parse_depend(names[i]);
	list_free(names);
}

static bool same_depend(const struct depend *a, const struct depend *b)
{
	return !strcmp(a->name, b->name) && !strcmp(a->param ? a->param : "", b->param ? b->param : "");
}

/* It depends on its data, whether it says so or not. */
static void add_data(struct fixture *f)
{
	struct depend d = parse_depend(f->data);

	for (f->data_at = 0; f->data_at < f->n_depends; f->data_at++) {
		if (!same_depend(&f->depends[f->data_at], &d))
			continue;
		free(d.name);
		free(d.param);
		return;
	}
	f->depends = xrealloc(f->depends, (f->n_depends + 1) * sizeof d);
	f->depends[f->n_depends++] = d;
}

static int by_key(const void *a, const void *b)
{
	const struct raw_entry *const *x = a, *const *y = b;

	return strcmp((*x)->key, (*y)->key);
}

/* What the section says, in any order, and where its paths start; its documentation is not part of what is built. */
static struct digest digest_section(const char *root, const struct raw_entry **entries, size_t n)
{
	_cleanup_text_ struct text t = { 0 };

	text_printf(&t, "%s%c", root, '\n');
	qsort(entries, n, sizeof *entries, by_key);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(entries[i]->key, "doc") && strcmp(entries[i]->key, "category"))
			text_printf(&t, "%s=%s%c", entries[i]->key, entries[i]->value, '\n');
	}
	text_add(&t, "", 0);
	return digest_bytes(t.data, t.size);
}

static bool valid_name(const char *name)
{
	return *name && strlen(name) <= 100 &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == strlen(name);
}

/* Where `fixctl run` shows it. */
static void check_path(struct loading *l, struct fixture *f)
{
	char normal[PATH_MAX];

	if (!path_normalize("/", f->path, normal, sizeof normal) || !strcmp(normal, "/")) {
		problem(l, raw_line(&l->raw, f->line, "path"), "path = %s: expected the path of one file or directory", f->path);
		return;
	}
	free(f->path);
	f->path = xstrdup(normal);
	if (f->source == SOURCE_CLIENT || f->scope != SCOPE_SESSION || (f->params && f->params[0]))
		problem(l, raw_line(&l->raw, f->line, "path"),
			"path is for fixtures of scope session without params that fixd itself builds: which one should be there?");
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

static void check_service(struct loading *l, struct fixture *f)
{
	_cleanup_free_ char *wrong = service_complete(f);

	if (wrong)
		problem(l, f->line, "%s", wrong);
}

static bool is_variable(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return n > 0 && !s[n] && !(*s >= '0' && *s <= '9');
}

static void check_lists(struct loading *l, const struct fixture *f)
{
	for (size_t i = 0; f->params && f->params[i]; i++) {
		for (size_t k = 0; k < i; k++) {
			if (!strcmp(f->params[i], f->params[k]))
				problem(l, raw_line(&l->raw, f->line, "params"), "params: '%s' is there twice", f->params[i]);
		}
	}
	for (size_t i = 0; f->env && f->env[i]; i++) {
		if (!is_variable(f->env[i]))
			problem(l, raw_line(&l->raw, f->line, "env"),
				"env: '%s' is no name of a variable: letters, digits and '_', not a digit first", f->env[i]);
	}
}

/* What is excluded is not watched either: the watcher finds the patterns behind the directory. */
static void check_exclude(struct loading *l, struct fixture *f)
{
	if (f->exclude && f->source != SOURCE_DIRECTORY) {
		problem(l, raw_line(&l->raw, f->line, "exclude"), "exclude is for directory =");
		return;
	}
	for (size_t i = 0; f->exclude && f->exclude[i]; i++) {
		if (f->exclude[i][0] == '/')
			problem(l, raw_line(&l->raw, f->line, "exclude"),
				"exclude: '%s' is absolute; expected names, and paths in the directory", f->exclude[i]);
		list_append(&f->inputs, xasprintf("!%s", f->exclude[i]));
	}
}

static void check_fixture(struct loading *l, struct fixture *f)
{
	const struct identity *id;

	/* What is wrong in the section may be the name of its source. */
	if (f->source == SOURCE_NONE && !l->failed)
		problem(l, f->line, "[fixture %s] has no source; expected one of " SOURCE_NAMES, f->name);
	check_lists(l, f);
	if (f->policy.timeout <= 0)
		problem(l, raw_line(&l->raw, f->line, "timeout"), "timeout: expected a duration above 0");
	for (size_t i = 0; f->params && f->params[i]; i++) {
		if (strpbrk(f->params[i], "[]") || strlen(f->name) + strlen(f->params[i]) + 2 > WIRE_NAME_MAX)
			problem(l, raw_line(&l->raw, f->line, "params"), "params: '%s' is too long or has a bracket", f->params[i]);
	}
	if (f->source != SOURCE_CLIENT && (f->version || !f->reuse))
		problem(l, f->line, "version and reuse are for client = yes");
	/* What the inputs were when a client read them is not known here; and what is the default for all others is not for it. */
	if (f->source == SOURCE_CLIENT)
		f->policy.watch_by = WATCH_BY_MTIME;
	if (f->source == SOURCE_CLIENT && l->config->policy.rebuild == REBUILD_EAGER)
		f->policy.rebuild = REBUILD_LAZY;
	if (f->source == SOURCE_CLIENT && (f->n_depends || f->warm || f->user || f->policy.rebuild == REBUILD_EAGER))
		problem(l, f->line, "depends, warm, user and rebuild = eager are not for client = yes: fixd does not build it");
	if (f->source == SOURCE_CLIENT && (f->teardown || f->reset || f->exclusive))
		problem(l, f->line, "teardown, reset and exclusive are not for client = yes: who builds it tears it down");
	check_service(l, f);
	f->as_is = f->path != NULL;
	if (f->path)
		check_path(l, f);
	if (f->source != SOURCE_PLUGIN && f->malloc_from)
		problem(l, raw_line(&l->raw, f->line, "malloc"), "malloc = arena is for plugins");
	if (f->source != SOURCE_PLUGIN && f->verify)
		problem(l, raw_line(&l->raw, f->line, "verify"), "verify is for plugins: it is one of their functions");
	if (f->source != SOURCE_PLUGIN && !f->relocate)
		problem(l, raw_line(&l->raw, f->line, "relocate"), "relocate is for plugins: nothing else has addresses in it");
	check_exclude(l, f);
	id = f->user ? identity_learn(f->user) : NULL;
	if (f->user && !id)
		problem(l, raw_line(&l->raw, f->line, "user"), "user = %s: there is no such user, or it is in more than %d groups", f->user,
			IDENTITY_GROUPS_MAX);
	else if (f->user && geteuid() != 0 && id->uid != geteuid())
		problem(l, raw_line(&l->raw, f->line, "user"), "user = %s: only a daemon of root can build as another user", f->user);
}

static struct fixture *fixture_new(const char *name, int line, const struct policy *defaults)
{
	struct fixture *f = xcalloc(1, sizeof *f);

	f->name = xstrdup(name);
	f->line = line;
	f->reuse = f->relocate = 1;
	f->policy = policy_dup(defaults);
	f->inputs = xcalloc(1, sizeof *f->inputs);
	return f;
}

static void load_fixture(struct loading *l, size_t section, const char *name)
{
	struct config *c = l->config;
	struct fixture *f = fixture_new(name, l->raw.sections[section].line, &c->policy);
	size_t first = l->raw.sections[section].first,
	       last = section + 1 < l->raw.n_sections ? l->raw.sections[section + 1].first : l->raw.n_entries;
	const struct raw_entry **mine = xcalloc(last - first, sizeof *mine);
	size_t n = 0;
	bool failed = l->failed;

	l->failed = false;
	if (!valid_name(name))
		problem(l, f->line, "[fixture %s]: a name has 1 to 100 letters, digits, '_', '.' or '-'", name);
	for (size_t i = first; i < last; i++) {
		const struct raw_entry *e = &l->raw.entries[i];

		mine[n++] = e;
		if (source_of(e->key))
			load_source(l, f, e);
		else if (!strcmp(e->key, "depends"))
			load_depends(f, e);
		else
			apply(l, e, KEY_FIXTURE, f, &f->policy);
	}
	f->section = digest_section(c->root, mine, n);
	free(mine);
	if (f->data)
		add_data(f);
	check_fixture(l, f);
	l->failed |= failed;
	c->fixtures = xrealloc(c->fixtures, (c->n_fixtures + 1) * sizeof *c->fixtures);
	c->fixtures[c->n_fixtures++] = f;
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
			load_fixture(l, i, s->name + 8);
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
		struct passwd *pw = getpwnam(c->allow_user_names[i]);

		if (!pw) {
			problem(l, 0, "allow-users: there is no user '%s'", c->allow_user_names[i]);
			continue;
		}
		c->allow_users = xrealloc(c->allow_users, (c->n_allow_users + 1) * sizeof *c->allow_users);
		c->allow_users[c->n_allow_users++] = pw->pw_uid;
	}
	for (size_t i = 0; c->allow_group_names && c->allow_group_names[i]; i++) {
		struct group *gr = getgrnam(c->allow_group_names[i]);

		if (!gr) {
			problem(l, 0, "allow-groups: there is no group '%s'", c->allow_group_names[i]);
			continue;
		}
		c->allow_groups = xrealloc(c->allow_groups, (c->n_allow_groups + 1) * sizeof *c->allow_groups);
		c->allow_groups[c->n_allow_groups++] = gr->gr_gid;
	}
}

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
		apply(&l, &entries[i], KEY_REGISTERED, f, &f->policy);
	}
	for (size_t i = 0; f->env && f->env[i]; i++)
		list_append(&f->all_env, xstrdup(f->env[i]));
	f->settings = digest_section(root, all, n);
	/* Another max-age is a reason to look, not to build again. */
	for (size_t i = 0; i < n; i++) {
		const struct key *k = key_find(KEY_REGISTERED, all[i]->key);

		if (k && !(k->sections & KEY_POLICY))
			all[kept++] = all[i];
	}
	f->section = digest_section(root, all, kept);
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

static void load_remote(struct loading *l)
{
	_cleanup_free_ char *wrong = NULL;

	for (size_t i = 0; i < l->raw.n_sections; i++) {
		if (strcmp(l->raw.sections[i].name, "remote") != 0)
			continue;
		load_section(l, "remote", KEY_REMOTE, l->config, NULL);
		wrong = remote_complete(l->config);
		if (wrong)
			problem(l, l->raw.sections[i].line, "%s", wrong);
		return;
	}
}

/* Dependencies have got their fixtures by now. */
static void check_remotes(struct loading *l)
{
	for (size_t i = 0; i < l->config->n_fixtures; i++) {
		const struct fixture *f = l->config->fixtures[i];
		_cleanup_free_ char *wrong = f->remote ? remote_check(l->config, f) : NULL;

		if (wrong)
			problem(l, f->line, "[fixture %s] %s", f->name, wrong);
	}
}

static int by_name(const void *a, const void *b)
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
		load_section(&l, "fixd", KEY_FIXD, c, NULL);
		load_section(&l, "policy", KEY_POLICY, NULL, &c->policy);
		load_remote(&l);
		load_sections(&l);
		resolve_people(&l);
		if (c->n_fixtures)
			qsort(c->fixtures, c->n_fixtures, sizeof *c->fixtures, by_name);
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

struct fixture *fixture_free(struct fixture *f)
{
	if (!f)
		return NULL;
	for (size_t i = 0; i < f->n_depends; i++) {
		free(f->depends[i].name);
		free(f->depends[i].param);
	}
	free(f->depends);
	key_free_fields(KEY_FIXTURE, f);
	key_free_fields(KEY_POLICY, &f->policy);
	list_free(f->inputs);
	list_free(f->all_env);
	list_free(f->registered_as);
	free(f->symbol);
	free(f->ready_what);
	free(f->what);
	free(f->name);
	free(f);
	return NULL;
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

char *config_describe(const struct fixture *f)
{
	struct text t = { 0 };

	for (size_t i = 0; i < key_count; i++) {
		const struct key *k = &key_table[i];
		_cleanup_text_ struct text value = { 0 };

		if (!(k->sections & KEY_FIXTURE) || !strcmp(k->name, "doc") || !strcmp(k->name, "scope") || !strcmp(k->name, "params"))
			continue;
		key_print(k, (k->sections & KEY_POLICY) ? (const void *)&f->policy : f, &value);
		if (value.size)
			text_printf(&t, "%s = %s\n", k->name, value.data);
	}
	return text_steal(&t);
}
