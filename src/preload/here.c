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

#define HERES 8
static struct here {
	char path[PATH_MAX]; /* visible */
	size_t length;
	bool far;
} heres[HERES];
static _Atomic unsigned now; /* % HERES; 0: not known */

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
	struct run_entry *e;
	struct here *h;

	if (is_guest())
		return;
	next += next == 0;
	h = &heres[next % HERES];
	if (!ask(h->path)) {
		atomic_store(&now, 0);
		return;
	}
	h->length = strlen(h->path);
	h->far = shown_reach(h->path, &e) == REACH_FAR;
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

static const struct here *current(void)
{
	unsigned n = atomic_load_explicit(&now, memory_order_relaxed);

	return n && !is_guest() ? &heres[n % HERES] : NULL;
}

bool here_is_far(void)
{
	const struct here *h = current();

	return h && h->far;
}

/* Every path of a group begins like the working directory and then like the path, as far as both go. */
bool here_may_reach(const char *path, size_t n)
{
	const struct here *h = current();
	char start[256];
	size_t slash;

	if (!h || h->length + 1 >= sizeof start)
		return true;
	/* Only the beginning: if that is like no fixture's, the rest does not matter. */
	memcpy(start, h->path, h->length);
	slash = h->length > 1;
	start[slash ? h->length : 0] = '/';
	if (n > sizeof start - 1 - h->length)
		n = sizeof start - 1 - h->length;
	memcpy(start + (slash ? h->length + 1 : 1), path, n);
	return shown_may_be(start, (slash ? h->length + 1 : 1) + n);
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
		memccpy(out, heres[n % HERES].path, '\0', PATH_MAX);
	} while (atomic_load(&now) - n >= HERES - 1);
	return true;
}

char *where_here(char *out)
{
	return ask(out) ? out : NULL;
}
