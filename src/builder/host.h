/* SPDX-License-Identifier: MIT */
/*
 * Between libfixd-builder and the helper process that hosts it: the library is what plugins link to, the helper does the
 * work. The table only grows at its end.
 */
#pragma once

#include <stddef.h>

struct fixd_builder;

struct builder_host {
	void *(*alloc)(struct fixd_builder *b, size_t align, size_t size);
	void *(*realloc)(struct fixd_builder *b, void *p, size_t size);
	void (*free)(struct fixd_builder *b, void *p);
	void (*set_root)(struct fixd_builder *b, const void *root);
	const void *(*dep)(struct fixd_builder *b, const char *name, size_t *size);
	const char *(*dep_path)(struct fixd_builder *b, const char *name);
	void (*fail)(struct fixd_builder *b, const char *sentence);
	void (*describe)(struct fixd_builder *b, const void *p, size_t n, size_t size, const char *type);
};

struct fixd_builder {
	const struct builder_host *host;
	const char *fixture, *param, *scope_key;
};
