/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void text_deinit(struct text *t)
{
	free(t->data);
	*t = (struct text){ 0 };
}

void text_add(struct text *t, const void *data, size_t size)
{
	if (t->room - t->size <= size) {
		t->room = (t->size + size + 1) * 2;
		t->data = xrealloc(t->data, t->room);
	}
	if (size)
		memcpy(t->data + t->size, data, size);
	t->size += size;
	t->data[t->size] = '\0';
}

void text_puts(struct text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void text_printf(struct text *t, const char *fmt, ...)
{
	_cleanup_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	text_puts(t, s);
}

void text_add_and_forget(struct text *t, const void *data, size_t size, size_t keep)
{
	text_add(t, data, size);
	if (t->size <= 2 * keep)
		return;
	memmove(t->data, t->data + t->size - keep, keep + 1);
	t->size = keep;
}

void text_add_last_lines(struct text *t, const struct text *from, size_t n)
{
	size_t end = from->size, start, lines = 0;

	while (end && from->data[end - 1] == '\n')
		end--;
	for (start = end; start && end - start < 1500; start--) {
		if (from->data[start - 1] == '\n' && ++lines == n)
			break;
	}
	if (start < end)
		text_add(t, from->data + start, end - start);
}

void text_add_with_last_lines(struct text *t, const char *sentence, const struct text *said)
{
	size_t before;

	text_puts(t, sentence);
	before = t->size;
	text_puts(t, "\n");
	text_add_last_lines(t, said, 10);
	if (t->size == before + 1)
		t->data[--t->size] = '\0';
}

char *text_steal(struct text *t)
{
	char *s;

	text_add(t, "", 0);
	s = t->data;
	*t = (struct text){ 0 };
	return s;
}

char **list_split(const char *s)
{
	char **list = xcalloc(1, sizeof *list);
	size_t n = 0;

	while (*s) {
		size_t length = strcspn(s, ",\n"), from = 0, to = length;

		while (from < to && strchr(" \t\r", s[from]))
			from++;
		while (to > from && strchr(" \t\r", s[to - 1]))
			to--;
		if (to > from) {
			list = xrealloc(list, (n + 2) * sizeof *list);
			list[n++] = xstrndup(s + from, to - from);
			list[n] = NULL;
		}
		s += length + (s[length] != '\0');
	}
	return list;
}

void list_free(char **list)
{
	for (size_t i = 0; list && list[i]; i++)
		free(list[i]);
	free(list);
}

size_t list_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

char **list_dup(char *const *list)
{
	char **copy = xcalloc(list_count(list) + 1, sizeof *copy);

	for (size_t i = 0; list && list[i]; i++)
		copy[i] = xstrdup(list[i]);
	return copy;
}

void list_append(char ***list, char *s)
{
	size_t n = list_count(*list);

	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = s;
	(*list)[n + 1] = NULL;
}

bool list_has(char *const *list, const char *s)
{
	for (size_t i = 0; list && list[i]; i++) {
		if (!strcmp(list[i], s))
			return true;
	}
	return false;
}
