/* SPDX-License-Identifier: MIT */
#include "config/raw.h"

#include <errno.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/vector.h"

/*
 * inih cuts lines, names and sections that are longer than its buffers. It is handed a short stand-in of each line, which says
 * what kind of line it is, and decides what follows from that; the text itself is kept here.
 */
#define FILE_MAX ((size_t)64 << 20)

struct reading {
	struct raw_file *file;
	struct text *problems;
	char *text; /* the file */
	size_t size, at;
	int line;
	struct vector names; /* struct section_name, in order */
	/* Of the line that inih has: */
	char *key, *value; /* key NULL: the value goes on */
	bool comment_cut;
	bool has_key;	   /* something that could go on */
	bool is_continued; /* and has gone on, behind so many blanks */
	size_t indent;
	bool lost; /* in a section that could not be understood: what is in it is not looked at */
	bool failed;
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
static void note_section(struct reading *r, const char *name)
{
	bool found;
	size_t at = vector_search(&r->names, name, by_section_name, &found);

	if (found) {
		const struct section_name *other = r->names.all[at];

		config_problem(r->problems, r->file->path, r->line, "section [%s] is there already, at line %d", name, other->line);
		r->failed = true;
	}
	add_section(r->file, name, r->line);
	if (!found)
		vector_insert(&r->names, at, section_name(name, r->line));
}

/* A comment may stand behind a blank. */
static const char *find_comment(const char *s)
{
	for (const char *p = strchr(s, ';'); p; p = strchr(p + 1, ';')) {
		if (p > s && strchr(" \t", p[-1]))
			return p;
	}
	return s + strlen(s);
}

static char *trimmed(const char *s, const char *end)
{
	while (s < end && strchr(" \t", *s))
		s++;
	while (end > s && strchr(" \t", end[-1]))
		end--;
	return xstrndup(s, (size_t)(end - s));
}

/* Its words, with one blank between them. */
static char *words_of(const char *s, const char *end)
{
	char *words = trimmed(s, end), *out = words;

	for (const char *p = words; *p; p += strchr(" \t", *p) ? strspn(p, " \t") : 1)
		*out++ = *p == '\t' ? ' ' : *p;
	*out = '\0';
	return words;
}

/* "[name]", and nothing behind it but a comment. */
static bool take_section(struct reading *r, const char *line)
{
	const char *end = strchr(line, ']'), *rest = end ? end + 1 + strspn(end + 1, " \t") : "";
	_cleanup_free_ char *name = end ? words_of(line + 1, end) : NULL;

	r->has_key = false;
	r->lost = !end;
	if (!end) {
		problem(r, "a section without ']'; write [fixd], [policy], [remote] or [fixture NAME]");
	} else if (*rest && *rest != ';' && *rest != '#') {
		config_problem(r->problems, r->file->path, r->line,
			       "something stands behind ']' of [%s]: '%s'; write it on a line of its own", name, rest);
		r->failed = true;
	}
	if (name)
		note_section(r, name);
	return name;
}

/* One of the sections that there are: behind blanks it would be a part of the value before. */
static bool is_indented_section(const char *start)
{
	const char *name = start + strspn(start, "[ \t"), *behind = name + strcspn(name, " \t]");
	size_t n = (size_t)(behind - name);

	/* "[fixture" is no command of a shell, whether it is closed or not. */
	return *start == '[' && (name == start + 1 || strchr(behind, ']')) &&
	       ((n == 4 && !strncmp(name, "fixd", n)) || (n == 6 && (!strncmp(name, "policy", n) || !strncmp(name, "remote", n))) ||
		(n == 7 && !strncmp(name, "fixture", n)));
}

static bool take_pair(struct reading *r, const char *line)
{
	const char *end = find_comment(line), *is = strpbrk(line, "=:");

	if (!is || is >= end) {
		problem(r, "neither '[section]' nor 'key = value' nor a comment");
		return false;
	}
	r->key = trimmed(line, is);
	r->value = trimmed(is + 1, end);
	r->comment_cut = *end;
	r->has_key = true;
	r->is_continued = false;
	return true;
}

/* What stands behind the blanks that the first continued line of its value has before it: what is further in stays so. */
static char *continued(struct reading *r, const char *line, const char *end)
{
	size_t blanks = strspn(line, " \t");

	if (!r->is_continued)
		r->indent = blanks;
	r->is_continued = true;
	line += blanks < r->indent ? blanks : r->indent;
	while (end > line && strchr(" \t", end[-1]))
		end--;
	return xstrndup(line, (size_t)(end - line));
}

/* What stands for the line; "" for one that says nothing, or nothing that can be understood. */
static void stand_in(struct reading *r, const char *line, char *out, size_t room)
{
	const char *start = line + strspn(line, " \t");

	*out = '\0';
	if (!*start || *start == ';' || *start == '#')
		return;
	if (start > line && is_indented_section(start)) {
		problem(r, "a section begins at the start of a line, without blanks before it");
		line = start;
	}
	if (*start == '[' && start == line) {
		if (take_section(r, line))
			snprintf(out, room, "[s%d]", r->line);
	} else if (r->lost) {
		return;
	} else if (start > line && r->has_key) {
		const char *end = find_comment(start);

		r->value = continued(r, line, end);
		r->comment_cut = *end;
		snprintf(out, room, " v%d", r->line);
	} else if (take_pair(r, start)) {
		snprintf(out, room, "k%d = v%d", r->line, r->line);
	}
}

/* The next line, which ends as lines of any system end; NULL: there is none. */
static char *next_line(struct reading *r)
{
	char *line = r->text + r->at;
	size_t n = 0, left = r->size - r->at;

	if (left == 0)
		return NULL;
	while (n < left && line[n] != '\n' && line[n] != '\r')
		n++;
	r->at += n + (n < left) + (n + 1 < left && line[n] == '\r' && line[n + 1] == '\n');
	line[n] = '\0';
	r->line++;
	if (r->line == 1 && n >= 2 && (!memcmp(line, "\xff\xfe", 2) || !memcmp(line, "\xfe\xff", 2))) {
		problem(r, "the file is UTF-16; save it as UTF-8");
		r->at = r->size;
		return NULL;
	}
	if (strlen(line) < n) {
		problem(r, "there is a NUL byte in the line");
		memset(line, ';', 1);
	}
	if (r->line == 1 && !strncmp(line, "\xef\xbb\xbf", 3)) {
		problem(r, "the file begins with a byte order mark; save it as UTF-8 without one");
		line += 3;
	}
	return line;
}

static void forget_line(struct reading *r)
{
	free(r->key);
	free(r->value);
	r->key = r->value = NULL;
	r->comment_cut = false;
}

/* fgets() for inih. */
static char *read_line(char *out, int room, void *stream)
{
	struct reading *r = stream;
	const char *line = next_line(r);

	forget_line(r);
	if (!line)
		return NULL;
	stand_in(r, line, out, (size_t)room - 1);
	return strcat(out, "\n");
}

static void continue_entry(struct reading *r)
{
	struct raw_entry *e = &r->file->entries[r->file->n_entries - 1];
	char *joined = xasprintf("%s\n%s", e->value, r->value);

	free(e->value);
	e->value = joined;
	e->comment_cut |= r->comment_cut;
}

/* What inih has understood is the line that it was handed last. */
static int take_entry(void *user, const char *section, const char *key, const char *value)
{
	struct reading *r = user;
	struct raw_file *f = r->file;
	int index = (int)f->n_sections - 1;

	(void)key;
	(void)value;
	if (!*section) {
		problem(r, "a key before the first section; allowed sections: [fixd], [policy], [remote], [fixture NAME]");
		return 1;
	}
	if (!r->key) {
		if (f->n_entries && f->entries[f->n_entries - 1].section == index)
			continue_entry(r);
		return 1;
	}
	for (size_t i = f->sections[index].first; i < f->n_entries; i++) {
		if (!strcmp(f->entries[i].key, r->key)) {
			config_problem(r->problems, f->path, r->line, "key '%s' is there already, at line %d", r->key, f->entries[i].line);
			r->failed = true;
			return 1;
		}
	}
	f->entries = xrealloc(f->entries, (f->n_entries + 1) * sizeof *f->entries);
	f->entries[f->n_entries++] = (struct raw_entry){
		.section = index, .line = r->line, .key = xstrdup(r->key), .value = xstrdup(r->value), .comment_cut = r->comment_cut
	};
	return 1;
}

int raw_read(const char *path, struct raw_file *out, struct text *problems)
{
	struct reading r = { .file = out, .problems = problems };
	int bad;

	*out = (struct raw_file){ .path = path };
	bad = file_read_all(path, FILE_MAX, &r.text, &r.size);
	if (bad < 0) {
		config_problem(problems, path, 0, "cannot be read: %s", strerror(-bad));
		return bad;
	}
	bad = ini_parse_stream(read_line, &r, take_entry, &r);
	if (bad && !r.failed) {
		config_problem(problems, path, bad > 0 ? bad : 0, "cannot be understood");
		r.failed = true;
	}
	forget_line(&r);
	free_names(&r.names);
	free(r.text);
	return r.failed ? -EINVAL : 0;
}

static bool is_one_of(const char *key, const char *keys)
{
	size_t n = strlen(key);

	for (; *keys; keys += strcspn(keys, " "), keys += *keys == ' ') {
		if (!strncmp(keys, key, n) && (!keys[n] || keys[n] == ' '))
			return true;
	}
	return false;
}

int raw_line(const struct raw_file *f, int section, const char *keys)
{
	for (size_t i = 0; i < f->n_entries; i++) {
		const struct raw_entry *e = &f->entries[i];

		if (f->sections[e->section].line == section && is_one_of(e->key, keys))
			return e->line;
	}
	return section;
}

int raw_line_in(const struct raw_file *f, const char *name, const char *keys)
{
	int line = 0;

	for (size_t i = 0; i < f->n_sections; i++) {
		const struct raw_section *s = &f->sections[i];

		if (strcmp(s->name, name) != 0)
			continue;
		line = raw_line(f, s->line, keys);
		if (line != s->line)
			break;
	}
	return line;
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
