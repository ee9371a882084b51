/* SPDX-License-Identifier: MIT */
#include "builder/sysv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/text.h"

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
};

/*
 * Of each kind: the `k`-th process that has made it or was the last to use it (0: nobody, -1: there are no more), by which user it was made, and a
 * number that it keeps: of a segment its maker, of the others their time.
 */

static pid_t segment_user(int id, size_t k)
{
	struct shmid_ds s;

	return k > 0 || shmctl(id, IPC_STAT, &s) < 0 ? -1 : s.shm_cpid;
}

static pid_t semaphore_user(int id, size_t k)
{
	struct semid_ds s;
	union semun arg = { .buf = &s };

	return semctl(id, 0, IPC_STAT, arg) < 0 || k >= s.sem_nsems ? -1 : semctl(id, (int)k, GETPID);
}

static pid_t queue_user(int id, size_t k)
{
	struct msqid_ds q;

	return k > 1 || msgctl(id, IPC_STAT, &q) < 0 ? -1 : k == 0 ? q.msg_lspid : q.msg_lrpid;
}

static bool segment_owner(int id, uid_t *owner, long *mark)
{
	struct shmid_ds s;

	if (shmctl(id, IPC_STAT, &s) < 0)
		return false;
	*owner = s.shm_perm.cuid;
	*mark = s.shm_cpid;
	return true;
}

static bool semaphores_owner(int id, uid_t *owner, long *mark)
{
	struct semid_ds s;
	union semun arg = { .buf = &s };

	if (semctl(id, 0, IPC_STAT, arg) < 0)
		return false;
	*owner = s.sem_perm.cuid;
	*mark = (long)s.sem_ctime;
	return true;
}

static bool queue_owner(int id, uid_t *owner, long *mark)
{
	struct msqid_ds q;

	if (msgctl(id, IPC_STAT, &q) < 0)
		return false;
	*owner = q.msg_perm.cuid;
	*mark = (long)q.msg_ctime;
	return true;
}

static int remove_segment(int id)
{
	return shmctl(id, IPC_RMID, NULL);
}

static int remove_semaphores(int id)
{
	return semctl(id, 0, IPC_RMID);
}

static int remove_queue(int id)
{
	return msgctl(id, IPC_RMID, NULL);
}

static const struct kind {
	const char *word, *name, *table;
	pid_t (*user)(int id, size_t k);
	bool (*owner)(int id, uid_t *owner, long *mark);
	int (*remove)(int id);
} kinds[] = {
	{ "sysv", "shared memory segment", "/proc/sysvipc/shm", segment_user, segment_owner, remove_segment },
	{ "semaphores", "set of semaphores", "/proc/sysvipc/sem", semaphore_user, semaphores_owner, remove_semaphores },
	{ "queue", "message queue", "/proc/sysvipc/msg", queue_user, queue_owner, remove_queue },
};

static char **sysv_add(char **list, const char *word)
{
	size_t n = list_count(list);

	list = xrealloc(list, (n + 2) * sizeof *list);
	list[n] = xstrdup(word);
	list[n + 1] = NULL;
	return list;
}

static bool is_one_of(pid_t pid, const pid_t *pids, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		if (pids[k] == pid)
			return true;
	}
	return false;
}

/* Somebody has used it, and nobody else. */
static bool is_theirs(const struct kind *kind, int id, const pid_t *pids, size_t n)
{
	bool used = false;
	pid_t user;

	for (size_t k = 0; (user = kind->user(id, k)) >= 0; k++) {
		if (user > 0 && !is_one_of(user, pids, n))
			return false;
		used |= user > 0;
	}
	return used;
}

/* Calls for each line of each table, which has the number in its second column. */
static char **each(char **list, char **(*fn)(char **list, const struct kind *kind, int id, const char *word, void *arg), void *arg)
{
	for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
		FILE *f = fopen(kinds[k].table, "re");
		char line[512];
		uid_t owner;
		long mark;
		int id;

		while (f && fgets(line, sizeof line, f)) {
			_cleanup_free_ char *word = NULL;

			if (sscanf(line, "%*d %d", &id) != 1 || !kinds[k].owner(id, &owner, &mark) || owner != geteuid())
				continue;
			word = xasprintf("%s %d %ld", kinds[k].word, id, mark);
			list = fn(list, &kinds[k], id, word, arg);
		}
		if (f)
			fclose(f);
	}
	return list;
}

static char **list_it(char **list, const struct kind *kind, int id, const char *word, void *arg)
{
	(void)kind;
	(void)id;
	(void)arg;
	return sysv_add(list, word);
}

char **sysv_list(void)
{
	return each(NULL, list_it, NULL);
}

bool sysv_has_others(char *const *list, char *const *before)
{
	char **all = sysv_list();
	bool others = false;

	for (size_t k = 0; all && all[k]; k++)
		others |= !list_has(list, all[k]) && !list_has(before, all[k]);
	list_free(all);
	return others;
}

struct noting {
	char *const *before;
	const pid_t *pids;
	size_t n_pids;
};

static char **note_it(char **list, const struct kind *kind, int id, const char *word, void *arg)
{
	const struct noting *n = arg;

	if (list_has(n->before, word) || list_has(list, word) || !is_theirs(kind, id, n->pids, n->n_pids))
		return list;
	return sysv_add(list, word);
}

char **sysv_note(char **list, char *const *before, const pid_t *pids, size_t n_pids)
{
	struct noting n = { before, pids, n_pids };

	return each(list, note_it, &n);
}

static bool is_in_use(const struct kind *kind, int id)
{
	struct shmid_ds s;
	pid_t user;

	/* Of segments the kernel knows it. */
	if (kind->user == segment_user)
		return shmctl(id, IPC_STAT, &s) == 0 && s.shm_nattch > 0;
	for (size_t k = 0; (user = kind->user(id, k)) >= 0; k++) {
		if (user > 0 && (kill(user, 0) == 0 || errno != ESRCH))
			return true;
	}
	return false;
}

void sysv_remove(const char *word)
{
	for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
		const struct kind *kind = &kinds[k];
		size_t n = strlen(kind->word);
		long mark, now;
		uid_t owner;
		int id;

		if (strncmp(word, kind->word, n) != 0 || sscanf(word + n, " %d %ld", &id, &mark) != 2)
			continue;
		if (kind->owner(id, &owner, &now) && now == mark && owner == geteuid() && !is_in_use(kind, id) && kind->remove(id) == 0)
			fprintf(stderr, "fixd-builder: the %s %d was left behind, and is removed\n", kind->name, id);
	}
}
