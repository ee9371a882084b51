/* SPDX-License-Identifier: MIT */
#include "builder/leavings.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"
#include "builder/processes.h"
#include "builder/sysv.h"

#define SHM "/dev/shm/"

/* A file that a process has mapped or open. */
struct mapping {
	unsigned major, minor;
	unsigned long inode;
	char path[4096];
};

static bool is_shared_memory(const char *line, struct mapping *m)
{
	char kind[8];

	return sscanf(line, "%*s %7s %*x %x:%x %lu %4095[^\n]", kind, &m->major, &m->minor, &m->inode, m->path) == 5 && kind[3] == 's' &&
	       !strncmp(m->path, SHM, strlen(SHM));
}

/* One word: what it is, and by what it is known again. */
static char *word_of(const struct mapping *m)
{
	return xasprintf("file %u %u %lu %s", m->major, m->minor, m->inode, m->path);
}

/* Calls `fn` for all shared memory of a process until it says true. */
static bool each_mapping(pid_t pid, bool (*fn)(pid_t pid, const struct mapping *m, void *arg), void *arg)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	struct mapping m;
	char line[8192];
	bool done = false;

	while (f && !done && fgets(line, sizeof line, f))
		done = is_shared_memory(line, &m) && fn(pid, &m, arg);
	if (f)
		fclose(f);
	return done;
}

static bool is_open_file(int dir, const char *name, struct mapping *m)
{
	ssize_t n = readlinkat(dir, name, m->path, sizeof m->path - 1);
	struct stat st;

	if (n < (ssize_t)strlen(SHM) || strncmp(m->path, SHM, strlen(SHM)) != 0 || fstatat(dir, name, &st, 0) < 0)
		return false;
	m->path[n] = '\0';
	m->major = major(st.st_dev);
	m->minor = minor(st.st_dev);
	m->inode = st.st_ino;
	return true;
}

/* The same for what it has open, mapped or not. */
static bool each_open_file(pid_t pid, bool (*fn)(pid_t pid, const struct mapping *m, void *arg), void *arg)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/fd", (int)pid);
	DIR *dir = opendir(path);
	struct dirent *e;
	struct mapping m;
	bool done = false;

	while (dir && !done && (e = readdir(dir)))
		done = is_open_file(dirfd(dir), e->d_name, &m) && fn(pid, &m, arg);
	if (dir)
		closedir(dir);
	return done;
}

/* The kernel takes the time of a file from a clock that lags behind by a tick. */
#define TICK (10 * NSEC_PER_MSEC)

/* Made by the service, and not only used by it. */
static bool is_own_file(const struct mapping *m, int64_t since)
{
	struct statx st;

	return !strchr(m->path + strlen(SHM), '/') &&
	       statx(AT_FDCWD, m->path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &st) == 0 && (st.stx_mask & STATX_BTIME) &&
	       S_ISREG(st.stx_mode) && st.stx_uid == geteuid() && st.stx_ino == m->inode &&
	       st.stx_btime.tv_sec * NSEC_PER_SEC + st.stx_btime.tv_nsec >= since - TICK;
}

struct noting {
	char **list;
	int64_t since;
	pid_t *pids;
	size_t n_pids;
};

static bool leavings_add(pid_t pid, const struct mapping *m, void *arg)
{
	struct noting *n = arg;
	_cleanup_free_ char *word = word_of(m);
	size_t count = list_count(n->list);

	(void)pid;
	if (list_has(n->list, word) || !is_own_file(m, n->since))
		return false;
	n->list = xrealloc(n->list, (count + 2) * sizeof *n->list);
	n->list[count] = xstrdup(word);
	n->list[count + 1] = NULL;
	return false;
}

static void add_process(struct noting *n, pid_t pid)
{
	n->pids = xrealloc(n->pids, (n->n_pids + 1) * sizeof *n->pids);
	n->pids[n->n_pids++] = pid;
}

static bool note_process(pid_t pid, void *arg)
{
	each_mapping(pid, leavings_add, arg);
	each_open_file(pid, leavings_add, arg);
	add_process(arg, pid);
	return false;
}

char **leavings_note(char **list, char *const *before, pid_t group, pid_t ended, int64_t since)
{
	struct noting n = { .list = list, .since = since };

	/* What such a one had mapped or open is gone, and looking at all others takes long. */
	if (ended > 0 && !sysv_has_others(list, before))
		return list;
	processes_each_descendant(group, note_process, &n);
	if (ended > 0)
		add_process(&n, ended);
	n.list = sysv_note(n.list, before, n.pids, n.n_pids);
	free(n.pids);
	return n.list;
}

struct search {
	const char *word;
	bool found;
};

static bool is_it(pid_t pid, const struct mapping *m, void *arg)
{
	struct search *s = arg;
	_cleanup_free_ char *word = word_of(m);

	(void)pid;
	return s->found = !strcmp(word, s->word);
}

static bool look_into(pid_t pid, void *arg)
{
	return each_mapping(pid, is_it, arg) || each_open_file(pid, is_it, arg);
}

static bool somebody_has(const char *word)
{
	struct search s = { .word = word };

	processes_each(look_into, &s);
	return s.found;
}

static void remove_file(const char *word)
{
	unsigned major, minor;
	unsigned long inode;
	struct stat st;
	int at = 0;

	/* Another one may have its name by now. */
	if (sscanf(word, "file %u %u %lu %n", &major, &minor, &inode, &at) == 3 && at && lstat(word + at, &st) == 0 &&
	    S_ISREG(st.st_mode) && st.st_ino == inode && major(st.st_dev) == major && minor(st.st_dev) == minor && unlink(word + at) == 0)
		fprintf(stderr, "fixd-builder: %s was left behind, and is removed\n", word + at);
}

void leavings_remove(char *const *list)
{
	for (size_t k = 0; list && list[k]; k++) {
		if (strncmp(list[k], "file ", 5) != 0)
			sysv_remove(list[k]);
		else if (!somebody_has(list[k]))
			remove_file(list[k]);
	}
}
