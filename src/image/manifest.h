/* SPDX-License-Identifier: MIT */
/*
 * The manifest of a directory fixture: what a tree consists of. It is the image of such a fixture, so equal trees have equal
 * manifests, byte for byte. Text, one entry a line, by name (strcmp) within a directory, which comes before what is in it; the root is left out:
 *
 *	f MODE SIZE MTIME.NSEC DIGEST PATH       a file
 *	d MODE 0 0 - PATH                        a directory
 *	l 777 0 0 - PATH -> TARGET               a symbolic link
 *	h 0 0 0 - PATH -> FIRST                  another name of a file, whose first one is in the manifest before
 *	p MODE 0 0 - PATH                        a FIFO, or with s a socket
 *	c MODE MAJOR MINOR - PATH                a device, or with b a block device
 *	a UID GID 0 DIGEST PATH                  of the entry before: the owner, where it is not that of the tree, and the extended attributes
 *
 * MODE is octal, DIGEST is XXH3-128 in hexadecimal; blanks, backslashes, control characters and the first blank of ` -> `
 * inside names are written \ooo.
 */
#pragma once

#include <stdint.h>

#include "base/text.h"

/* What the kernel keeps for a file, directory or link besides its bytes: a tmpfs inode and a name (some 1,000 bytes, as slabinfo shows it). */
#define MANIFEST_ENTRY 1024

enum manifest_modes {
	MANIFEST_READ_ONLY,	   /* everybody may read, and execute what anybody could; nobody may write */
	MANIFEST_AS_IS,		   /* what the files and directories have, for a tree that is shown in their place */
	MANIFEST_CONSUME = 1 << 8, /* with either: each file is removed when it was copied; until then it is counted, too */
};

/*
 * Copies the tree at `from` into the empty directory `to` (a tmpfs) and writes its manifest. Files and directories keep their
 * modification time, all names of a file lead to one copy, and holes stay holes; with MANIFEST_AS_IS also owner, extended attributes
 * and access control lists, as far as this process may give them. Asks `grant` for the bytes before they are written: pages, and 1 KiB
 * for each entry. Tells `left_out` of what this process may not make: devices. On error *where is the path it happened at (to be freed).
 */
struct manifest_host {
	int (*grant)(void *arg, uint64_t total);
	void (*left_out)(void *arg, const char *path, const char *why);
	void *arg;
	char *const *exclude; /* names and paths, with wildcards, that are no part of the tree; or NULL */
};

int manifest_copy_tree(const char *from, const char *to, enum manifest_modes modes, const struct manifest_host *host, struct text *manifest,
		       uint64_t *bytes, char **where);
