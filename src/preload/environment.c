/* SPDX-License-Identifier: MIT */
#include "preload/environment.h"

#include <alloca.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/preloads.h"
#include "preload/search.h"

#define PRELOAD "LD_PRELOAD="
#define LIBRARIES "LD_LIBRARY_PATH="
#define SCRIPT_NAME "FIXD_SCRIPT_NAME="
#define LIBRARIES_END "/end-of-fixd-libraries" /* in the scratch directory, where there is none */

static size_t environment_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* The value of the variable ("NAME="), or NULL. */
static const char *find_variable(char *const *envp, const char *name)
{
	for (; envp && *envp; envp++) {
		if (!strncmp(*envp, name, strlen(name)))
			return *envp + strlen(name);
	}
	return NULL;
}

static const char *find_preload(char *const *envp)
{
	const char *value = find_variable(envp, PRELOAD);

	return value ? value : "";
}

static const struct run_table *any_run(void)
{
	return run ? run : run_left;
}

static const char *shim_path(void)
{
	return (const char *)any_run() + any_run()->shim;
}

/* Of a list that libc's loader reads: is this part in a fixture? */
static APART bool is_shown(const char *name, size_t n)
{
	char copy[PATH_MAX];

	if (!run || n == 0 || n >= sizeof copy)
		return false;
	memcpy(copy, name, n);
	copy[n] = '\0';
	return is_inside(AT_FDCWD, copy);
}

static bool is_shown_preload(struct preload p)
{
	return memchr(p.name, '/', p.size) && is_shown(p.name, p.size);
}

/* With what is in a fixture as it really is. */
static size_t preload_room(char *const *envp)
{
	const char *had = find_preload(envp);
	size_t n = strlen(had);
	struct preload p;

	while ((p = preload_next(&had)).size)
		n += is_shown_preload(p) ? PATH_MAX : 0;
	return n;
}

size_t environment_room(char *const *envp)
{
	if (!any_run())
		return 1;
	return (environment_count(envp) + any_run()->n_variables + 3) * sizeof *envp + strlen(PRELOAD) + preload_room(envp) +
	       2 * strlen(shim_path()) + SANITIZER_MAX + 5;
}

static bool is_shim(struct preload p)
{
	return p.size == strlen(shim_path()) && !memcmp(p.name, shim_path(), p.size);
}

static char *environment_put(char *out, const char *name, size_t n)
{
	if (out[-1] != '=')
		*out++ = ':';
	out = mempcpy(out, name, n);
	*out = '\0';
	return out;
}

/* Where the loader finds the file or directory; false: nowhere. */
static bool find_for_loader(const char *name, size_t n, struct resolved *p)
{
	char copy[PATH_MAX];
	int found;

	memcpy(copy, name, n);
	copy[n] = '\0';
	found = resolve_path(p, AT_FDCWD, copy, USE_READ);
	/* It maps no image, and nothing of where the kernel executes nothing. */
	if (found == 1 && (p->image || resolve_is_noexec(p)))
		found = resolve_path(p, AT_FDCWD, copy, USE_CHANGE);
	return found == 1;
}

static APART char *put_other(char *out, struct preload p)
{
	struct resolved at;

	if (is_shown_preload(p) && find_for_loader(p.name, p.size, &at) && !strpbrk(at.path, ": "))
		return environment_put(out, at.path, strlen(at.path));
	return environment_put(out, p.name, p.size);
}

/* What others want preloaded that comes first, or does not. */
static char *put_others(char *out, const char *had, bool first)
{
	struct preload p;

	while ((p = preload_next(&had)).size) {
		if (preload_is_others(p, had, is_shim) && preload_is_sanitizer(p) == first)
			out = put_other(out, p);
	}
	return out;
}

static void put_preload(char *out, char *const *envp, const char *sanitizer)
{
	const char *had = find_preload(envp), *shim = shim_path();
	char *start = stpcpy(out, PRELOAD);

	out = put_others(start, had, true);
	if (*sanitizer && out == start) {
		out = environment_put(out, sanitizer, strlen(sanitizer));
		out = environment_put(out, shim, strlen(shim));
	}
	put_others(environment_put(out, shim, strlen(shim)), had, false);
}

char *const *environment_without_shim(char *const *envp, void *room)
{
	char **out = room, *preload = (char *)(out + environment_count(envp) + 1);
	size_t n = 0;

	if (!any_run() || !strstr(find_preload(envp), shim_path()))
		return envp;
	put_others(put_others(stpcpy(preload, PRELOAD), find_preload(envp), true), find_preload(envp), false);
	for (; *envp; envp++) {
		bool is_preload = !strncmp(*envp, PRELOAD, strlen(PRELOAD));

		if (!is_preload || preload[strlen(PRELOAD)])
			out[n++] = is_preload ? preload : *envp;
	}
	out[n] = NULL;
	return out;
}

void run_leave(void)
{
	char *const *without;

	run_left = run;
	run = NULL;
	without = environment_without_shim(environ, alloca(environment_room(environ)));
	if (without == environ)
		return;
	if (*find_preload(without))
		setenv("LD_PRELOAD", find_preload(without), 1);
	else
		unsetenv("LD_PRELOAD");
}

static bool has_name_of(const char *variable, const char *other)
{
	size_t n = strcspn(variable, "=");

	return !strncmp(variable, other, n) && other[n] == '=';
}

static bool is_named(char *const *envp, const char *variable)
{
	for (; envp && *envp; envp++) {
		if (has_name_of(variable, *envp))
			return true;
	}
	return false;
}

/* What was set to something else is somebody's own: a fixture of which a program has got another clone. */
static bool is_complete(char *const *envp, const char *preload)
{
	const char *v = run_string(run->variables);

	if (strcmp(find_preload(envp), preload + strlen(PRELOAD)) != 0)
		return false;
	for (uint32_t i = 0; i < run->n_variables; i++, v += strlen(v) + 1) {
		if (!is_named(envp, v))
			return false;
	}
	return true;
}

/* A run inside of this one has put its own there. */
static bool is_of_another_run(char *const *envp)
{
	const char *ours = run_string(run->variables);

	for (; envp && *envp; envp++) {
		if (has_name_of(ours, *envp))
			return strcmp(*envp, ours) != 0;
	}
	return false;
}

/* In another root directory, or a mount namespace with less, the loader would complain of it. */
static bool shim_is_in_reach(void)
{
	int saved = errno;
	bool is = kernel(SYS_faccessat, AT_FDCWD, shim_path(), R_OK) == 0;

	errno = saved;
	return is;
}

char *const *environment_complete(char *const *envp, const char *sanitizer, void *room)
{
	char *const *had = envp;
	char **out = room, *preload;
	const char *v;
	size_t n = 0;

	if (!run || is_of_another_run(envp))
		return envp;
	if (sanitizer == NO_SHIM || !shim_is_in_reach())
		return environment_without_shim(envp, room);
	preload = (char *)(out + environment_count(envp) + run->n_variables + 2);
	put_preload(preload, envp, sanitizer);
	if (envp && is_complete(envp, preload))
		return envp;
	for (; envp && *envp; envp++) {
		if (strncmp(*envp, PRELOAD, strlen(PRELOAD)) != 0)
			out[n++] = *envp;
	}
	out[n++] = preload;
	v = run_string(run->variables);
	for (uint32_t i = 0; i < run->n_variables; i++, v += strlen(v) + 1) {
		if (!is_named(had, v))
			out[n++] = (char *)v;
	}
	out[n] = NULL;
	return out;
}

/* As the kernel has it: 15 bytes of the last part of its path. */
#define NAME_SIZE 16

size_t environment_name_room(char *const *envp)
{
	return (environment_count(envp) + 2) * sizeof *envp + strlen(SCRIPT_NAME) + NAME_SIZE;
}

char *const *environment_with_name(char *const *envp, const char *script, void *room)
{
	const char *slash = strrchr(script, '/');
	char **out = room, *variable = (char *)(out + environment_count(envp) + 2);
	size_t n = 0;

	/* Without the shim nobody would take it. */
	if (!strstr(find_preload(envp), shim_path()))
		return envp;
	snprintf(stpcpy(variable, SCRIPT_NAME), NAME_SIZE, "%s", slash ? slash + 1 : script);
	for (; *envp; envp++)
		out[n++] = *envp;
	out[n++] = variable;
	out[n] = NULL;
	return out;
}

/*
 * Directories of libraries are for the loader only: they come first in LD_LIBRARY_PATH, end with a path that says so, and are taken
 * out again when the program starts.
 */
struct libraries {
	char *list;
	size_t size, room;
	const char *more; /* what the variable has, or NULL */
};

#define SEARCHED_MAX ((size_t)2 * PATH_MAX) /* of directories that programs and libraries name */

static APART void add_library_directory(void *arg, enum search_what what, const char *real)
{
	struct libraries *l = arg;
	size_t n = strlen(real);

	if (what != SEARCH_DIRECTORY || strchr(real, ':'))
		return;
	for (const char *d = l->list; *d; d += strcspn(d, ":") + 1) {
		if (strcspn(d, ":") == n && !strncmp(d, real, n))
			return;
	}
	if (l->size + n + 2 < l->room)
		l->size += (size_t)sprintf(l->list + l->size, "%s:", real);
}

/* How many of them are in fixtures. */
static size_t count_shown(char *const *envp)
{
	const char *had = run ? find_variable(envp, LIBRARIES) : NULL;
	size_t count = 0;

	for (size_t n; had && *had; had += n + (had[n] != '\0')) {
		n = strcspn(had, ":;");
		count += is_shown(had, n);
	}
	return count;
}

/* Calls `each` for every library of others that is to be preloaded from a path. Whether there is one. */
static bool each_preload(char *const *envp, void (*each)(const char *path, void *arg), void *arg)
{
	const char *had = find_preload(envp);
	bool any = false;
	struct preload p;

	while ((p = preload_next(&had)).size) {
		char path[PATH_MAX];

		if (!memchr(p.name, '/', p.size) || p.size >= sizeof path || is_shim(p))
			continue;
		any = true;
		memcpy(path, p.name, p.size);
		path[p.size] = '\0';
		if (each)
			each(path, arg);
	}
	return any;
}

bool environment_names_libraries(char *const *envp)
{
	const char *had = run ? find_variable(envp, LIBRARIES) : NULL;

	return (had && *had) || (run && each_preload(envp, NULL, NULL));
}

/* Of the list that is put before what the variable has. */
static size_t list_room(char *const *envp)
{
	const char *had = find_variable(envp, LIBRARIES);

	return SEARCHED_MAX + (had ? strlen(had) + 2 + count_shown(envp) * PATH_MAX : 0);
}

size_t environment_libraries_room(char *const *envp)
{
	const char *had = find_variable(envp, LIBRARIES);

	return (environment_count(envp) + 2) * sizeof *envp + strlen(LIBRARIES) + list_room(envp) + strlen(run_string(run->scratch)) +
	       sizeof LIBRARIES_END + (had ? strlen(had) : 0) + 4;
}

/* All of them: they are searched in this order. */
static APART void add_as_they_are(struct libraries *l, const char *had)
{
	for (size_t n; *had; had += n + (had[n] != '\0')) {
		struct resolved p;

		n = strcspn(had, ":;");
		if (n >= sizeof p.path)
			continue;
		if (!is_shown(had, n) || !find_for_loader(had, n, &p)) {
			memcpy(p.path, had, n);
			p.path[n] = '\0';
		}
		add_library_directory(l, SEARCH_DIRECTORY, p.path);
	}
}

static void search_preload(const char *path, void *arg)
{
	struct libraries *l = arg;

	search_libraries(path, l->more, add_library_directory, l);
}

APART char *const *environment_with_libraries(char *const *envp, const char *path, void *room)
{
	const char *had = find_variable(envp, LIBRARIES);
	char **out = room, *variable = (char *)(out + environment_count(envp) + 2);
	struct libraries l = { .list = stpcpy(variable, LIBRARIES), .room = list_room(envp) };
	size_t n = 0, as_they_are;

	*l.list = '\0';
	/* They come before what programs name. */
	if (had)
		add_as_they_are(&l, had);
	as_they_are = l.size;
	search_libraries(path, had, add_library_directory, &l);
	l.more = had;
	each_preload(envp, search_preload, &l);
	if (l.size == as_they_are && !count_shown(envp))
		return envp;
	sprintf(l.list + l.size, "%s" LIBRARIES_END "%s%s", run_string(run->scratch), had ? ":" : "", had ? had : "");
	for (; envp && *envp; envp++)
		out[n++] = strncmp(*envp, LIBRARIES, strlen(LIBRARIES)) ? *envp : variable;
	if (!had)
		out[n++] = variable;
	out[n] = NULL;
	return out;
}

static void environment_take_name(void)
{
	for (char **e = environ; e && *e; e++) {
		if (strncmp(*e, SCRIPT_NAME, strlen(SCRIPT_NAME)) != 0)
			continue;
		kernel(SYS_prctl, PR_SET_NAME, *e + strlen(SCRIPT_NAME), 0, 0);
		for (; *e; e++)
			e[0] = e[1];
		return;
	}
}

static const char *at_start = "";

const char *environment_libraries_at_start(void)
{
	return at_start;
}

/* In place, before the program looks: it has got what it had. */
void environment_begin(void)
{
	environment_take_name();
	for (char **e = environ; e && *e; e++) {
		char *end;

		if (strncmp(*e, LIBRARIES, strlen(LIBRARIES)) != 0)
			continue;
		at_start = *e + strlen(LIBRARIES);
		end = strstr(*e, LIBRARIES_END);
		if (!end)
			return;
		end += strlen(LIBRARIES_END);
		if (*end == ':') {
			memmove(*e + strlen(LIBRARIES), end + 1, strlen(end));
			return;
		}
		at_start = "";
		for (; *e; e++)
			e[0] = e[1];
		return;
	}
}

bool environment_is_complete(void)
{
	return !run || environment_complete(environ, "", alloca(environment_room(environ))) == environ;
}
