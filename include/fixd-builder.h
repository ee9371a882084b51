/* SPDX-License-Identifier: MIT */
/*
 * libfixd-builder: the C interface of a fixture builder.
 *
 * A builder is a shared object named by `plugin = LIB.so[:symbol]` in fixd.ini. fixd loads it into a process of its own,
 * calls its function once, and makes everything allocated with fixd_builder_alloc() an image: sealed, and mapped at the same address
 * by every test process. So the objects may be full of pointers to each other, and into the images of the dependencies; a
 * pointer to anything else (heap, stack, a string literal of the plugin) would mean nothing there and makes the build fail,
 * unless `stray-pointers` says otherwise.
 *
 * What a builder writes to standard output or standard error is kept for `fixctl log`.
 *
 * Thread rule: a struct fixd_builder may be used by one thread at a time.
 * Memory returned is owned by the image; pointers are valid until the function returns.
 */
#ifndef FIXD_BUILDER_H
#define FIXD_BUILDER_H

#include <stddef.h>

#pragma GCC visibility push(default)

#ifdef __cplusplus
extern "C" {
#endif

struct fixd_builder;

/*
 * What the plugin defines (or another function of this type, named after the colon). Builds the same bytes from the same
 * inputs if it can: fixd then knows that nothing has changed.
 * Returns 0, or anything else for a failure; see fixd_builder_fail(). Since: 0.1
 */
int fixd_builder_main(struct fixd_builder *b);

/* Zeroed memory in the image, aligned for any type. Returns NULL when memory-max is reached; returning a failure is enough then,
 * fixd says why. Since: 0.1 */
void *fixd_builder_alloc(struct fixd_builder *b, size_t size);
/* The same, at a multiple of `align` bytes, a power of two. Since: 0.1 */
void *fixd_builder_aligned_alloc(struct fixd_builder *b, size_t align, size_t size);
/* As realloc(), for pointers of these functions only. New bytes are zero. Since: 0.1 */
void *fixd_builder_realloc(struct fixd_builder *b, void *p, size_t size);
/* Gives an object back for reuse. Never free() an object of the image. Since: 0.1 */
void fixd_builder_free(struct fixd_builder *b, void *p);
/* Copies of strings, in the image. Since: 0.1 */
char *fixd_builder_strdup(struct fixd_builder *b, const char *s);
char *fixd_builder_strndup(struct fixd_builder *b, const char *s, size_t n);

/* What fixd_view_root() gives to those who attach; otherwise it is the start of the image. Since: 0.1 */
void fixd_builder_set_root(struct fixd_builder *b, const void *root);

/*
 * Says what lies where, for whoever is told who changed it: from `p` on there are `n` objects of the type that `p` points to, which is
 * called `type` ("struct word", "shop::order"). fixd_view_object() then names `struct word[12].next`: with its fields if the plugin was
 * compiled with -g, and libdw is installed where it runs. Of what is described twice the last word counts; it must be there when
 * the function returns. The other function is for those who know the size of an object and have no such pointer. Since: 0.1
 */
#define fixd_builder_describe(b, p, type, n) fixd_builder_describe_objects((b), (p), (n), sizeof *(p), (type))
void fixd_builder_describe_objects(struct fixd_builder *b, const void *p, size_t n, size_t size, const char *type);

/*
 * The dependency `name` (as written in `depends`): the root of its objects, or its bytes, read-only; `*size` (unless NULL) is
 * the size of its image in bytes. NULL if it is none. Since: 0.1
 */
const void *fixd_builder_dep(struct fixd_builder *b, const char *name, size_t *size);
/* A path where it can be read: of its tree, or a file with its bytes. NULL if it is none. Since: 0.1 */
const char *fixd_builder_dep_path(struct fixd_builder *b, const char *name);

/* What is being built; never NULL. Since: 0.1 */
const char *fixd_builder_fixture(const struct fixd_builder *b);
const char *fixd_builder_param(const struct fixd_builder *b);
const char *fixd_builder_scope_key(const struct fixd_builder *b);

/* Says why it fails; clients get the sentence. Returns -1: `return fixd_builder_fail(b, "%s: line %d: ...", file, line);`
 * Since: 0.1 */
int fixd_builder_fail(struct fixd_builder *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Short names. A program that includes fixd.h, too, and is C++ defines FIXD_BUILDER_LONG_NAMES before: there fixd_build is a struct.
 */
#ifndef FIXD_BUILDER_LONG_NAMES
int fixd_build(struct fixd_builder *b); /* instead of fixd_builder_main() */
#define fixd_alloc fixd_builder_alloc
#define fixd_aligned_alloc fixd_builder_aligned_alloc
#define fixd_realloc fixd_builder_realloc
#define fixd_free fixd_builder_free
#define fixd_strdup fixd_builder_strdup
#define fixd_strndup fixd_builder_strndup
#define fixd_set_root fixd_builder_set_root
#define fixd_describe fixd_builder_describe
#define fixd_dep fixd_builder_dep
#define fixd_dep_path fixd_builder_dep_path
#define fixd_fail fixd_builder_fail
#endif

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

#endif
