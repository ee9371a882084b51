/* SPDX-License-Identifier: MIT */
/*
 * Symbolic links outside of fixtures that lead into them: what the kernel would follow them to is not what the run has. Those that
 * the run makes are kept in the table, by their paths, for all of its processes, and so are those that were there before, where links
 * to a fixture are likely: beside it, and where the command is started. One that has gone stays: it is looked at before it is followed.
 * The first may cost every path a longer look.
 */
#include "preload/resolve.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "preload/quiet.h"

/* Offsets of strings in the table, by the hash of the path, after which a free one is looked for. */
static uint32_t *links_slots(void)
{
	return (uint32_t *)(void *)((char *)run + run->links);
}

static uint32_t hash(const char *path)
{
	uint32_t h = 2166136261u;

	for (; *path; path++)
		h = (h ^ (unsigned char)*path) * 16777619u;
	return h;
}

/* Where the path is, or the free slot that it would have; RUN_LINKS: there is none. */
static uint32_t find(const char *path)
{
	uint32_t at = hash(path);

	for (uint32_t k = 0; k < RUN_LINKS; k++, at++) {
		uint32_t offset = __atomic_load_n(&links_slots()[at % RUN_LINKS], __ATOMIC_ACQUIRE);

		if (!offset || !strcmp(run_string(offset), path))
			return at % RUN_LINKS;
	}
	return RUN_LINKS;
}

bool links_has(const char *path)
{
	uint32_t at = links_are_there() ? find(path) : RUN_LINKS;

	return at < RUN_LINKS && __atomic_load_n(&links_slots()[at], __ATOMIC_ACQUIRE);
}

/* Two may write it at once: then there are two. If there is no room it is not kept. */
static void keep(const char *path)
{
	uint32_t n = (uint32_t)strlen(path) + 1, at, none = 0, offset;

	if (links_has(path))
		return;
	offset = __atomic_fetch_add(&run->links_end, n, __ATOMIC_RELAXED);
	if (offset > run->size - n)
		return;
	quiet_copy((char *)run + offset, path, n);
	do {
		at = find(path);
		none = 0;
	} while (at < RUN_LINKS && !links_slots()[at] &&
		 !__atomic_compare_exchange_n(&links_slots()[at], &none, offset, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
	__atomic_store_n(&run->has_links, 1, __ATOMIC_RELEASE);
}

/* The path of what the name is in, as the kernel says it, in place. */
static void make_real(char *path)
{
	char above[PATH_MAX], *slash = strrchr(path, '/');
	int fd;

	snprintf(above, sizeof above, "%.*s", (int)(slash - path) + (slash == path), path);
	fd = REAL(open)(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fd_cache_path(fd, above, sizeof above) && strlen(above) + strlen(slash) < PATH_MAX) {
		memmove(path + (strcmp(above, "/") ? strlen(above) : 0), slash, strlen(slash) + 1);
		memcpy(path, above, strcmp(above, "/") ? strlen(above) : 0);
	}
	if (fd >= 0)
		REAL(close)(fd);
}

static APART void keep_both(char *path)
{
	keep(path);
	make_real(path);
	keep(path);
}

static bool leads_in(const char *path, const char *target)
{
	char from[PATH_MAX];

	if (*target == '/')
		return resolve_reach(AT_FDCWD, target) != REACH_OUTSIDE;
	return snprintf(from, sizeof from, "%.*s/%s", (int)(strrchr(path, '/') - path), path, target) < (int)sizeof from &&
	       resolve_reach(AT_FDCWD, from) != REACH_OUTSIDE;
}

/* False: it is not known where that is. */
static bool path_of(int dirfd, const char *path, char *out)
{
	char base[PATH_MAX] = "/";

	return (*path == '/' || (dirfd == AT_FDCWD ? cwd_cache_get(base) : fd_cache_visible(dirfd, base))) &&
	       path_normalize(base, path, out, PATH_MAX);
}

void links_made(const char *target, int dirfd, const char *path)
{
	int saved = errno;
	char at[PATH_MAX];

	if (run && path_of(dirfd, path, at) && leads_in(at, target))
		keep_both(at);
	errno = saved;
}

#define NAMES_MAX 20000 /* of a directory that are looked at for links */

static void seek_in(const char *directory)
{
	DIR *dir = REAL(opendir)(directory);
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *d;

	for (int k = 0; dir && k < NAMES_MAX && (d = REAL(readdir)(dir)); k++) {
		ssize_t n = d->d_type == DT_LNK ? REAL(readlinkat)(dirfd(dir), d->d_name, target, sizeof target - 1) : 0;

		if (n <= 0 || snprintf(path, sizeof path, "%s/%s", strcmp(directory, "/") ? directory : "", d->d_name) >= (int)sizeof path)
			continue;
		target[n] = '\0';
		if (leads_in(path, target))
			keep_both(path);
	}
	if (dir)
		REAL(closedir)(dir);
}

/* Of what several fixtures lie in, one is enough. */
static bool is_beside_another(uint32_t entry, const char *directory)
{
	const struct run_entry *e = run_entries();
	size_t n = strlen(directory);

	for (uint32_t i = 0; i < entry; i++) {
		const char *path = run_string(e[i].path);

		if (!strncmp(path, directory, n) && path[n] == '/' && !strchr(path + n + 1, '/'))
			return true;
	}
	return false;
}

void links_seek(void)
{
	char directory[PATH_MAX];
	uint32_t none = 0;
	int saved = errno;

	if (__atomic_load_n(&run->links_sought, __ATOMIC_ACQUIRE) ||
	    !__atomic_compare_exchange_n(&run->links_sought, &none, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
		return;
	for (uint32_t i = 0; i < run->n_entries; i++) {
		const char *path = run_string(run_entries()[i].path);

		snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
		if (resolve_reach(AT_FDCWD, directory) != REACH_INSIDE && !is_beside_another(i, directory))
			seek_in(*directory ? directory : "/");
	}
	if (cwd_cache_get(directory) && resolve_reach(AT_FDCWD, directory) != REACH_INSIDE && !is_beside_another(run->n_entries, directory))
		seek_in(directory);
	errno = saved;
}

void links_moved(int from_fd, const char *from, int to_fd, const char *to)
{
	char was[PATH_MAX], is[PATH_MAX];
	int saved = errno;

	for (uint32_t i = 0; links_are_there() && i < RUN_LINKS; i++) {
		uint32_t offset = __atomic_load_n(&links_slots()[i], __ATOMIC_ACQUIRE);
		const char *rest;

		if (!offset)
			continue;
		if (!path_of(from_fd, from, was) || !path_of(to_fd, to, is))
			break;
		rest = path_below(run_string(offset), was);
		if (rest && strlen(is) + strlen(rest) < sizeof is) {
			stpcpy(is + strlen(is), rest);
			keep_both(is);
		}
	}
	errno = saved;
}
