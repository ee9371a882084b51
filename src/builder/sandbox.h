/* SPDX-License-Identifier: MIT */
/*
 * A sandbox: the mount, ipc and pid namespaces (and where root is not allowed or not there a user namespace) that a service runs in,
 * with a /dev/shm and /tmp of its own and a writable view of a sealed tree.
 *
 * Promises: nothing that is written in it, to whatever of these, outlives its first process, and no process does; its files take at
 * most `limit` bytes of memory; the tree below the view is not changed. It ends when the process that has started it does.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct sandbox {
	const char *command; /* of the shell */
	int out;	     /* its standard output; -1: with standard error */
	const char *root;    /* where it runs */
	const char *home;    /* what lies in this directory stays to be seen, and is shared: its sockets */
	const char *tree;    /* NULL: there is none */
	const char *view;    /* in `home`: where the writable view of the tree is */
	int touch;	     /* hears whether the tree is used (builder/touch.h); or -1 */
	uint64_t limit;
};

/*
 * The pid of its first process, which ends with the last of its processes, or when the command has failed; *said is for
 * sandbox_status(). Or -errno, and *why (to be freed): what this machine refuses.
 */
pid_t sandbox_start(const struct sandbox *s, int *said, char **why);
/* Bytes of all files that are written in it, but for those in `home`. */
uint64_t sandbox_files(pid_t first);
/* How the command has ended, as waitpid() says it, when the first process has ended with `status`. */
int sandbox_status(int said, int status);
