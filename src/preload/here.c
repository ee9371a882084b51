/* SPDX-License-Identifier: MIT */
/*
 * The working directory as text, so that a relative path needs no system call. There are several copies, because one may be read
 * while the next one is written.
 */
#include "preload/where.h"

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The first one begins where the small variables end, and with what is always needed: see LARGE. */
#define HERES 8
static struct here {
	struct starts starts;
	char path[PATH_MAX]; /* visible */
} heres[HERES] __attribute__((section(".bss.y")));
static _Atomic unsigned now; /* a number; 0: not known */

static struct here *here_of(unsigned number)
{
	return &heres[(number - 1) % HERES];
}

/*
 * Between vfork() and exec two processes have one memory, and may be in two directories. vfork.c counts those that are there;
 * only then it is worth asking who this is.
 */
_Atomic unsigned vfork_guests;
static pid_t home_pid;

bool is_guest(void)
{
	return atomic_load_explicit(&vfork_guests, memory_order_relaxed) && getpid() != home_pid;
}

static bool ask(char *out)
{
	int saved = errno;
	long n = syscall(SYS_getcwd, out, PATH_MAX);

	errno = saved;
	/* "(unreachable)" is before a directory that is out of sight. */
	if (n <= 0 || *out != '/')
		return false;
	where_visible(out, PATH_MAX);
	return true;
}

void where_moved(void)
{
	unsigned next = atomic_load(&now) + 1;
	struct here *h;

	if (is_guest())
		return;
	next += next == 0;
	h = here_of(next);
	if (!ask(h->path)) {
		atomic_store(&now, 0);
		return;
	}
	shown_starts_below(&h->starts, h->path);
	atomic_store(&now, next);
}

static void in_child(void)
{
	home_pid = getpid();
	atomic_store(&vfork_guests, 0);
}

void here_begin(void)
{
	home_pid = getpid();
	where_moved();
	pthread_atfork(NULL, NULL, in_child);
}

const struct starts *here_starts(void)
{
	unsigned n = atomic_load_explicit(&now, memory_order_relaxed);

	return likely(n && !is_guest()) ? &here_of(n)->starts : NULL;
}

bool here_is_far(void)
{
	const struct starts *s = here_starts();

	return s && s->n == 0;
}

bool here_get(char *out)
{
	unsigned n;

	if (is_guest())
		return ask(out);
	do {
		n = atomic_load(&now);
		if (n == 0)
			return ask(out);
		memccpy(out, here_of(n)->path, '\0', PATH_MAX);
	} while (atomic_load(&now) - n >= HERES - 1);
	return true;
}

char *where_here(char *out)
{
	return ask(out) ? out : NULL;
}
