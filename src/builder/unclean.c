/* SPDX-License-Identifier: MIT */
#include "builder/unclean.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
	struct stat st;
	int pid = 0;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && read(fd, line, sizeof line - 1) > 0 &&
	       sscanf(line, "%d", &pid) == 1 && pid > 1;
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

/* NULL: the entry tells nothing. `relative`: its name as it is told. */
static char *what_it_tells(const char *path, const char *name, const char *relative)
{
	_cleanup_free_ char *control = NULL;

	if (is_pid_file(name) && has_pid(path))
		return xasprintf("%s is there", relative);
	if (strcmp(name, "global") != 0)
		return NULL;
	control = xasprintf("%s/pg_control", path);
	return was_not_shut_down(control) ? xasprintf("%s/pg_control says that PostgreSQL was not shut down", relative) : NULL;
}

static char *look_in(const char *dir, const char *above, int levels, size_t *left)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	char *found = NULL;

	while (!found && d && *left > 0 && (e = readdir(d))) {
		_cleanup_free_ char *path = NULL, *relative = NULL;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		--*left;
		path = xasprintf("%s/%s", dir, e->d_name);
		relative = xasprintf("%s%s", above, e->d_name);
		found = what_it_tells(path, e->d_name, relative);
		if (!found && levels > 1 && e->d_type == DT_DIR) {
			_cleanup_free_ char *below = xasprintf("%s/", relative);

			found = look_in(path, below, levels - 1, left);
		}
	}
	if (d)
		closedir(d);
	return found;
}

char *unclean_find(const char *dir)
{
	size_t left = ENTRIES_MAX;

	return look_in(dir, "", LEVELS, &left);
}
