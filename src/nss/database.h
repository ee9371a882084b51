/* SPDX-License-Identifier: MIT */
/*
 * libnss_fixd.so.2: what libc's own source "files" does for users, groups, hosts and the like (nss(5)), with open() as the process has
 * it. libc opens its files past the shim, which therefore puts this in the place of "files" where one of them is a fixture.
 *
 * Promises: an entry is what the file has, in the order of the file; a line that is none is passed over. Names are never asked for
 * elsewhere: what is not in the file is NSS_STATUS_NOTFOUND. Thread rule: libc's (it holds a lock around set, get and end).
 */
#pragma once

#include <errno.h>
#include <nss.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* A function that libc looks up by its name. */
#define NSS(f, ...)                                 \
	enum nss_status _nss_fixd_##f(__VA_ARGS__); \
	__attribute__((visibility("default"))) enum nss_status _nss_fixd_##f(__VA_ARGS__)

/* Of functions that return an errno, with ENOENT at the end of the file. */
static inline enum nss_status status_of(int r, int *err)
{
	if (r == 0)
		return NSS_STATUS_SUCCESS;
	*err = r;
	return r == ERANGE ? NSS_STATUS_TRYAGAIN : r == ENOENT ? NSS_STATUS_NOTFOUND : NSS_STATUS_UNAVAIL;
}

static inline enum nss_status database_rewind(FILE **stream, const char *file)
{
	if (*stream)
		rewind(*stream);
	else
		*stream = fopen(file, "re");
	return *stream ? NSS_STATUS_SUCCESS : NSS_STATUS_UNAVAIL;
}

static inline enum nss_status database_close(FILE **stream)
{
	if (*stream)
		fclose(*stream);
	*stream = NULL;
	return NSS_STATUS_SUCCESS;
}

/* setXent(), endXent() and getXent_r() over `next(FILE *, type *, char *buf, size_t size)`. */
#define WALK(X, type, file, next)                                                           \
	static FILE *X##_stream;                                                            \
                                                                                            \
	NSS(set##X##ent, int stays_open)                                                    \
	{                                                                                   \
		(void)stays_open;                                                           \
		return database_rewind(&X##_stream, file);                                  \
	}                                                                                   \
                                                                                            \
	NSS(end##X##ent, void)                                                              \
	{                                                                                   \
		return database_close(&X##_stream);                                         \
	}                                                                                   \
                                                                                            \
	static enum nss_status X##_walk(struct type *out, char *buf, size_t size, int *err) \
	{                                                                                   \
		if (!X##_stream && !(X##_stream = fopen(file, "re")))                       \
			return status_of(errno == ENOENT ? EACCES : errno, err);            \
		return status_of(next(X##_stream, out, buf, size), err);                    \
	}

/* The first entry for which `fits`, an expression over the entry `out`, is true. */
#define FIND(file, next, fits)                                     \
	FILE *f = fopen(file, "re");                               \
	int r = f ? 0 : errno == ENOENT ? EACCES : errno;          \
                                                                   \
	while (f && (r = next(f, out, buf, size)) == 0 && !(fits)) \
		;                                                  \
	if (f)                                                     \
		fclose(f);                                         \
	return status_of(r, err)
