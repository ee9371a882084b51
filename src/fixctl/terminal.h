/* SPDX-License-Identifier: MIT */
/*
 * Lines that fit into a terminal.
 *
 * Promises: what is not a terminal gets all of a text; no byte that would control a terminal gets there, whoever has written the text.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Columns and lines of the terminal that standard output is; 0: it is none. COLUMNS and LINES are asked where it does not know. */
size_t terminal_width(void);
size_t terminal_height(void);

/* Columns of one character, in the locale of the program: two of a wide one, none of one that is put over another. */
size_t terminal_width_of(const char *s, size_t length);
/* Columns that the first line of a text takes. */
size_t terminal_columns(const char *s);
/*
 * Prints a help text in lines of at most `width` columns (0: as it is): its first line, paragraphs, and lists of options, whose
 * explanations begin behind two blanks and go on in lines that are indented by eight or more.
 */
void terminal_print_help(const char *text, size_t width);
/* The first line of a text; on a terminal it goes on below what stands behind its first gap of two blanks. */
void terminal_print(const char *s);
/* The first line of a text, cut to `width` columns (0: not cut), with the end marked where something is missing; to be freed. */
char *terminal_fit(const char *s, size_t width);
/* The same of a name: its end, which tells it from those beside it, stays, and the middle is what is missing. */
char *terminal_fit_name(const char *s, size_t width);
/* All of a text, with nothing that would control a terminal; where it may have several `lines`, these and their colours stay. To be freed. */
char *terminal_plain(const char *s, size_t n, bool lines);
