/* SPDX-License-Identifier: MIT */
/*
 * Allocation for the programs (fixd, fixctl, fixd-builder): every function here succeeds or ends the process with a
 * message. Sizes asked through it are small and bounded by the caller. The libraries do not use it: they return -ENOMEM.
 */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

/* Local variables that free themselves: `_cleanup_free_ char *path = NULL;` */
void free_indirect(void *p);
#define _cleanup_free_ __attribute__((cleanup(free_indirect)))

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
