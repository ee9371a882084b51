/* SPDX-License-Identifier: MIT */
/*
 * The lines of an ini file as inih sees them, with what inih does not tell: the line number, and that a line was too long to
 * be one line. Continued lines are joined with a newline.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

struct raw_entry {
	int section; /* index */
	int line;
	char *key;
	char *value;
	bool comment_cut; /* inih took a " ;" for a comment */
};

struct raw_section {
	char *name;
	int line;
	size_t first; /* of its entries, which stand together */
};

struct raw_file {
	const char *path;
	struct raw_section *sections;
	size_t n_sections;
	struct raw_entry *entries;
	size_t n_entries;
};

/* 0; -EINVAL with lines in `problems`; or why the file cannot be read. */
int raw_read(const char *path, struct raw_file *out, struct text *problems);
/* Of the first of the keys ("data clones") in the section that begins at that line, or that line; or in those of that name, or 0. */
int raw_line(const struct raw_file *f, int section, const char *keys);
int raw_line_in(const struct raw_file *f, const char *name, const char *keys);
void raw_deinit(struct raw_file *f);

void config_problem(struct text *problems, const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
