/* SPDX-License-Identifier: MIT */
/*
 * The one lock of the shim, for lists of what is rare. A forked child does not inherit it from a thread it does not have. That is
 * arranged at the start, not when the first one takes it: somebody may be forking then.
 */
#include "preload/shim.h"

static pthread_mutex_t lists = PTHREAD_MUTEX_INITIALIZER;

void lists_take(void)
{
	pthread_mutex_lock(&lists);
}

void lists_leave(void)
{
	pthread_mutex_unlock(&lists);
}

static void in_child(void)
{
	/* Of a thread that has a guest the child has nothing. */
	atomic_store(&vfork_guests, 0);
	lists_leave();
}

void lock_begin(void)
{
	pthread_atfork(lists_take, lists_leave, in_child);
}
