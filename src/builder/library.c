/* SPDX-License-Identifier: MIT */
/* libfixd-builder: hands every call to the process that hosts the plugin. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "builder/host.h"
#include "fixd-builder.h"

void *fixd_builder_alloc(struct fixd_builder *b, size_t size)
{
	return b->host->alloc(b, 0, size);
}

void *fixd_builder_aligned_alloc(struct fixd_builder *b, size_t align, size_t size)
{
	return b->host->alloc(b, align, size);
}

void *fixd_builder_realloc(struct fixd_builder *b, void *p, size_t size)
{
	return b->host->realloc(b, p, size);
}

void fixd_builder_free(struct fixd_builder *b, void *p)
{
	b->host->free(b, p);
}

char *fixd_builder_strndup(struct fixd_builder *b, const char *s, size_t n)
{
	size_t length = strnlen(s, n);
	char *copy = fixd_builder_alloc(b, length + 1);

	if (copy)
		memcpy(copy, s, length);
	return copy;
}

char *fixd_builder_strdup(struct fixd_builder *b, const char *s)
{
	return fixd_builder_strndup(b, s, strlen(s));
}

void fixd_builder_set_root(struct fixd_builder *b, const void *root)
{
	b->host->set_root(b, root);
}

void fixd_builder_describe_objects(struct fixd_builder *b, const void *p, size_t n, size_t size, const char *type)
{
	b->host->describe(b, p, n, size, type);
}

const void *fixd_builder_dep(struct fixd_builder *b, const char *name, size_t *size)
{
	return b->host->dep(b, name, size);
}

const char *fixd_builder_dep_path(struct fixd_builder *b, const char *name)
{
	return b->host->dep_path(b, name);
}

const char *fixd_builder_fixture(const struct fixd_builder *b)
{
	return b->fixture;
}

const char *fixd_builder_param(const struct fixd_builder *b)
{
	return b->param;
}

const char *fixd_builder_scope_key(const struct fixd_builder *b)
{
	return b->scope_key;
}

int fixd_builder_fail(struct fixd_builder *b, const char *fmt, ...)
{
	char sentence[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, ap);
	va_end(ap);
	b->host->fail(b, sentence);
	return -1;
}
