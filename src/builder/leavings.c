/* SPDX-License-Identifier: MIT */
#include "builder/leavings.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"
#include "builder/processes.h"

#define SHM "/dev/shm/"
#define SYSV "/SYSV" /* as proc_pid_maps(5) shows it; its inode is the number of the segment */

/* A line of /proc/PID/maps that is of shared memory. */
struct mapping {
	unsigned major, minor;
	unsigned long inode;
	char path[4096];
};

static bool is_shared_memory(const char *line, struct mapping *m)
{
	char kind[8];

	if (sscanf(line, "%*s %7s %*x %x:%x %lu %4095[^\n]", kind, &m->major, &m->minor, &m->inode, m->path) != 5 || kind[3] != 's')
		return false;
	return !strncmp(m->path, SHM, strlen(SHM)) || !strncmp(m->path, SYSV, strlen(SYSV));
}

/* One word: what it is, and by what it is known again. */
static char *word_of(const struct mapping *m)
{
	if (*m->path == '/' && !strncmp(m->path, SYSV, strlen(SYSV)))
		return xasprintf("sysv %lu", m->inode);
	return xasprintf("file %u %u %lu %s", m->major, m->minor, m->inode, m->path);
}

/* Calls `fn` for all shared memory of a process until it says true. */
static bool each_mapping(pid_t pid, bool (*fn)(const char *word, void *arg), void *arg)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/maps", (int)pid);
	FILE *f = fopen(path, "re");
	struct mapping m;
	char line[8192];
	bool done = false;

	while (f && !done && fgets(line, sizeof line, f)) {
		if (is_shared_memory(line, &m)) {
			_cleanup_free_ char *word = word_of(&m);

			done = fn(word, arg);
		}
	}
	if (f)
		fclose(f);
	return done;
}

static bool add(const char *word, void *arg)
{
	char ***list = arg;

	size_t n = list_count(*list);

	if (*list && list_has(*list, word))
		return false;
	*list = xrealloc(*list, (n + 2) * sizeof **list);
	(*list)[n] = xstrdup(word);
	(*list)[n + 1] = NULL;
	return false;
}

static bool note_process(pid_t pid, void *arg)
{
	each_mapping(pid, add, arg);
	return false;
}

char **leavings_note(char **list, pid_t group)
{
	processes_each_descendant(group, note_process, &list);
	return list;
}

struct search {
	const char *word;
	bool found;
};

static bool is_it(const char *word, void *arg)
{
	struct search *s = arg;

	return s->found = !strcmp(word, s->word);
}

static bool look_into(pid_t pid, void *arg)
{
	return each_mapping(pid, is_it, arg);
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
	if (sscanf(word, "file %u %u %lu %n", &major, &minor, &inode, &at) == 3 && at && lstat(word + at, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_ino == inode && major(st.st_dev) == major && minor(st.st_dev) == minor && unlink(word + at) == 0)
		fprintf(stderr, "fixd-builder: %s was left behind, and is removed\n", word + at);
}

static void remove_segment(const char *word)
{
	struct shmid_ds segment;
	int id;

	if (sscanf(word, "sysv %d", &id) == 1 && shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_nattch == 0 && shmctl(id, IPC_RMID, NULL) == 0)
		fprintf(stderr, "fixd-builder: the shared memory segment %d was left behind, and is removed\n", id);
}

void leavings_remove(char *const *list)
{
	for (size_t k = 0; list && list[k]; k++) {
		if (somebody_has(list[k]))
			continue;
		if (!strncmp(list[k], "file ", 5))
			remove_file(list[k]);
		else
			remove_segment(list[k]);
	}
}
