/* SPDX-License-Identifier: MIT */
#include "config/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/glob.h"

/* The keys that say where a fixture comes from: exactly one in a section. */
static const char *const source_keys[SOURCE_COUNT] = {
	[SOURCE_FILE] = "file", [SOURCE_DIRECTORY] = "directory", [SOURCE_COMMAND] = "command", [SOURCE_PLUGIN] = "plugin",
	[SOURCE_TREE] = "tree", [SOURCE_SERVICE] = "service",	  [SOURCE_PROCESS] = "process", [SOURCE_CLIENT] = "client"
};

const char *source_name(int source)
{
	return source_keys[source];
}

bool source_keeps_running(int source)
{
	return source == SOURCE_SERVICE || source == SOURCE_PROCESS;
}

bool source_is_command(int source)
{
	return source == SOURCE_COMMAND || source == SOURCE_TREE || source_keeps_running(source);
}

int source_of(const char *key)
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

void source_load(struct loading *l, struct fixture *f, const struct raw_entry *e)
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
		loading_command(l, e);
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

static bool is_elf(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char head[4];

	return fd >= 0 && fd_pread_all(fd, head, sizeof head, 0) == (ssize_t)sizeof head && !memcmp(head, "\177ELF", sizeof head);
}

/* NULL: it can be read, as far as can be seen. */
static const char *wrong_source(const struct fixture *f)
{
	struct stat st;

	if (access(f->what, R_OK) < 0 || stat(f->what, &st) < 0)
		return strerror(errno);
	if (f->source == SOURCE_DIRECTORY)
		return S_ISDIR(st.st_mode) ? NULL : "it is no directory";
	if (S_ISDIR(st.st_mode))
		return "it is a directory";
	if (S_ISFIFO(st.st_mode))
		return "it is a pipe; use command = for what somebody writes to it";
	return f->source == SOURCE_PLUGIN && !is_elf(f->what) ? "it is no shared library" : NULL;
}

size_t config_check_sources(const struct config *c, struct text *problems)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_fixtures; i++) {
		const struct fixture *f = c->fixtures[i];
		const char *wrong = source_is_command(f->source) || f->source == SOURCE_CLIENT ? NULL : wrong_source(f);

		if (!wrong)
			continue;
		config_problem(problems, c->file, f->source_line, "[fixture %s] %s = %s cannot be read: %s", f->name,
			       source_name(f->source), f->what, wrong);
		n++;
	}
	return n;
}
