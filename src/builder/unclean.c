/* SPDX-License-Identifier: MIT */
#include "builder/unclean.h"

#include <fcntl.h>
#include <fts.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

#define ENTRIES_MAX 4096
#define LEVELS 2

/* Servers write their number there, and remove it when they are stopped. */
static bool is_pid_file(const char *name)
{
	size_t n = strlen(name);

	return n > strlen(".pid") && !strcmp(name + n - strlen(".pid"), ".pid");
}

/* A number in its first line, as of a process. */
static bool has_pid(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char line[32] = "";
	int pid = 0;

	return fd >= 0 && read(fd, line, sizeof line - 1) > 0 && sscanf(line, "%d", &pid) == 1 && pid > 1;
}

/*
 * PostgreSQL's global/pg_control: system identifier (8 bytes), its version and that of the catalog (4 each), and the state of the
 * cluster, of which 1 and 2 are those that were shut down (DBState in src/include/catalog/pg_control.h of PostgreSQL 9 to 17).
 */
#define PG_STATE_AT 16
#define PG_STATES 7

static bool was_not_shut_down(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint32_t state = 0;

	return fd >= 0 && pread(fd, &state, sizeof state, PG_STATE_AT) == sizeof state && state > 2 && state < PG_STATES;
}

/* NULL: it tells nothing. */
static char *what_it_tells(const FTSENT *e, const char *relative)
{
	_cleanup_free_ char *control = NULL;

	if (e->fts_info == FTS_F && is_pid_file(e->fts_name) && has_pid(e->fts_accpath))
		return xasprintf("%s is there", relative);
	if (e->fts_info != FTS_D || strcmp(e->fts_name, "global") != 0)
		return NULL;
	control = xasprintf("%s/pg_control", e->fts_accpath);
	return was_not_shut_down(control) ? xasprintf("%s/pg_control says that PostgreSQL was not shut down", relative) : NULL;
}

char *unclean_find(const char *dir)
{
	char *roots[] = { (char *)dir, NULL }, *found = NULL;
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	size_t n = 0;
	FTSENT *e;

	while (!found && fts && n++ < ENTRIES_MAX && (e = fts_read(fts))) {
		if (e->fts_level > 0)
			found = what_it_tells(e, e->fts_path + strlen(dir) + 1);
		if (e->fts_info == FTS_D && e->fts_level >= LEVELS)
			fts_set(fts, e, FTS_SKIP);
	}
	if (fts)
		fts_close(fts);
	return found;
}
