/* SPDX-License-Identifier: MIT */
#include "config/raw.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/vector.h"

struct reading {
	struct raw_file *file;
	FILE *stream;
	struct text *problems;
	int line;
	int section_line; /* of the last [section] seen */
	struct vector names; /* struct section_name, in order */
	bool indented, comment_cut;
	bool failed;
	int error; /* of the last read */
};

void config_problem(struct text *problems, const char *file, int line, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	if (line)
		text_printf(problems, "%s:%d: %s\n", file, line, s);
	else
		text_printf(problems, "%s: %s\n", file, s);
}

static void problem(struct reading *r, const char *what)
{
	config_problem(r->problems, r->file->path, r->line, "%s", what);
	r->failed = true;
}

static bool has_comment(const char *line)
{
	for (const char *p = strchr(line, ';'); p; p = strchr(p + 1, ';')) {
		if (p > line && (p[-1] == ' ' || p[-1] == '\t'))
			return true;
	}
	return false;
}

static int add_section(struct raw_file *f, const char *name, int line)
{
	f->sections = xrealloc(f->sections, (f->n_sections + 1) * sizeof *f->sections);
	f->sections[f->n_sections] = (struct raw_section){ xstrdup(name), line, f->n_entries };
	return (int)f->n_sections++;
}

/* In order, to find one that is there twice. */
struct section_name {
	char *name;
	int line;
};

static struct section_name *section_name(const char *name, int line)
{
	struct section_name *s = xcalloc(1, sizeof *s);

	s->name = xstrdup(name);
	s->line = line;
	return s;
}

static int by_section_name(const void *key, const void *element)
{
	return strcmp(key, ((const struct section_name *)element)->name);
}

static void free_names(struct vector *names)
{
	for (size_t k = 0; k < names->n; k++) {
		struct section_name *s = names->all[k];

		free(s->name);
		free(s);
	}
	vector_deinit(names);
}

/* inih does not tell of a section without keys, nor of the same section twice; both are visible here. */
static void note_section(struct reading *r, const char *line)
{
	const char *start = line + 1, *end = strchr(start, ']');
	_cleanup_free_ char *name = NULL;
	bool found;
	size_t at;

	r->section_line = r->line;
	if (!end)
		return; /* inih reports it */
	name = xstrndup(start, (size_t)(end - start));
	at = vector_search(&r->names, name, by_section_name, &found);
	if (found) {
		const struct section_name *other = r->names.all[at];

		config_problem(r->problems, r->file->path, r->line, "section [%s] is there already, at line %d", name, other->line);
		r->failed = true;
	}
	add_section(r->file, name, r->line);
	if (!found)
		vector_insert(&r->names, at, section_name(name, r->line));
}

static bool is_comment(const char *line)
{
	line += strspn(line, " \t");
	return *line == ';' || *line == '#';
}

/* fgets() for inih: hands out line after line, and stops where one that says something does not fit into inih's buffer. */
static char *read_line(char *str, int num, void *stream)
{
	struct reading *r = stream;
	size_t n;

	if (!fgets(str, num, r->stream)) {
		r->error = errno;
		return NULL;
	}
	r->line++;
	if (r->line == 1 && !strncmp(str, "\xef\xbb\xbf", 3)) {
		problem(r, "the file begins with a byte order mark; save it as UTF-8 without one");
		return NULL;
	}
	n = strlen(str);
	if (n + 1 == (size_t)num && str[n - 1] != '\n' && is_comment(str)) {
		for (int c = 0; c != '\n' && c != EOF;)
			c = fgetc(r->stream);
		/* inih would look for the rest of the line, since its version 59. */
		str[n - 1] = '\n';
	} else if (n + 1 == (size_t)num && str[n - 1] != '\n') {
		_cleanup_free_ char *what = xasprintf(
			"the line is longer than %d bytes; continue the value on the next line, indented", num - 2);

		problem(r, what);
		return NULL;
	}
	r->indented = str[0] == ' ' || str[0] == '\t';
	r->comment_cut = has_comment(str);
	if (str[0] == '[')
		note_section(r, str);
	return str;
}

static int continue_entry(struct reading *r, const char *value)
{
	struct raw_entry *e = &r->file->entries[r->file->n_entries - 1];
	char *joined = xasprintf("%s\n%s", e->value, value);

	free(e->value);
	e->value = joined;
	e->comment_cut |= r->comment_cut;
	return 1;
}

static int take_entry(void *user, const char *section, const char *key, const char *value)
{
	struct reading *r = user;
	struct raw_file *f = r->file;
	int index = (int)f->n_sections - 1;

	if (r->failed && f->n_sections == 0)
		return 1;
	if (index < 0 || strcmp(f->sections[index].name, section) != 0) {
		problem(r, "a key before the first section; allowed sections: [fixd], [policy], [fixture NAME]");
		return 1;
	}
	if (r->indented && f->n_entries && f->entries[f->n_entries - 1].section == index &&
	    !strcmp(f->entries[f->n_entries - 1].key, key))
		return continue_entry(r, value);
	for (size_t i = f->sections[index].first; i < f->n_entries; i++) {
		if (!strcmp(f->entries[i].key, key)) {
			config_problem(r->problems, f->path, r->line, "key '%s' is there already, at line %d", key,
				       f->entries[i].line);
			r->failed = true;
			return 1;
		}
	}
	f->entries = xrealloc(f->entries, (f->n_entries + 1) * sizeof *f->entries);
	f->entries[f->n_entries++] = (struct raw_entry){ .section = index, .line = r->line, .key = xstrdup(key),
							 .value = xstrdup(value), .comment_cut = r->comment_cut };
	return 1;
}

int raw_read(const char *path, struct raw_file *out, struct text *problems)
{
	struct reading r = { .file = out, .problems = problems };
	int bad;

	*out = (struct raw_file){ .path = path };
	r.stream = fopen(path, "re");
	if (!r.stream) {
		int err = -errno;

		config_problem(problems, path, 0, "cannot be read: %s", strerror(-err));
		return err;
	}
	errno = EIO;
	bad = ini_parse_stream(read_line, &r, take_entry, &r);
	if (ferror(r.stream)) {
		config_problem(problems, path, 0, "cannot be read: %s", strerror(r.error));
		r.failed = true;
	}
	fclose(r.stream);
	free_names(&r.names);
	if (bad > 0 && !r.failed) {
		config_problem(problems, path, bad, "neither '[section]' nor 'key = value' nor a comment");
		r.failed = true;
	}
	return r.failed || bad ? -EINVAL : 0;
}

void raw_deinit(struct raw_file *f)
{
	for (size_t i = 0; i < f->n_sections; i++)
		free(f->sections[i].name);
	for (size_t i = 0; i < f->n_entries; i++) {
		free(f->entries[i].key);
		free(f->entries[i].value);
	}
	free(f->sections);
	free(f->entries);
	*f = (struct raw_file){ 0 };
}
