/* SPDX-License-Identifier: MIT */
/*
 * Lines that fit into a terminal.
 *
 * Promises: what is not a terminal gets all of a text; no byte that would control a terminal gets there, whoever has written the text.
 */
#pragma once

#include <stddef.h>

/* Columns and lines of the terminal that standard output is; 0: it is none. COLUMNS and LINES are asked where it does not know. */
size_t terminal_width(void);
size_t terminal_height(void);

/* Columns that the first line of a text takes. */
size_t terminal_columns(const char *s);
/* The first line of a text, cut to `width` columns (0: not cut), with the end marked where something is missing; to be freed. */
char *terminal_fit(const char *s, size_t width);
