/* SPDX-License-Identifier: MIT */
/* A growing buffer of bytes, always NUL-terminated after the first write. For the programs: it never fails (see alloc.h). */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct text {
	char *data;
	size_t size;
	size_t room;
};

void text_deinit(struct text *t);
#define _cleanup_text_ __attribute__((cleanup(text_deinit)))

void text_add(struct text *t, const void *data, size_t size);
void text_puts(struct text *t, const char *s);
void text_printf(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds, and forgets all but the last `keep` bytes; now and then, so that there may be twice as many. */
void text_add_and_forget(struct text *t, const void *data, size_t size, size_t keep);
/* The last `n` lines of `from`, at most 1500 bytes, without the newline at its end. */
void text_add_last_lines(struct text *t, const struct text *from, size_t n);
/* A sentence, and the last lines (at most 10) of what somebody said, on lines of their own. */
void text_add_with_last_lines(struct text *t, const char *sentence, const struct text *said);
/* Hands the bytes over; never NULL. The caller frees. */
char *text_steal(struct text *t);

/* Cuts `s` at commas and newlines, trims blanks, leaves out empty pieces. NULL-terminated; free with list_free(). */
char **list_split(const char *s);
void list_free(char **list);
size_t list_count(char *const *list);
char **list_dup(char *const *list);
/* `s` is the list's from then on. */
void list_append(char ***list, char *s);
bool list_has(char *const *list, const char *s);
