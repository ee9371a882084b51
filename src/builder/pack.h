/* SPDX-License-Identifier: MIT */
/*
 * A tree as one stream of bytes: the length of its manifest in decimal and a newline, the manifest, and the contents of its files in the
 * order of that.
 *
 * Promises: nothing is made outside of the directory, and no link is followed; nothing but directories, files, links and other names of files is
 * made; the tree that comes of it has that manifest, or is refused.
 */
#pragma once

#include <stdint.h>

struct work;

#define PACK_REFUSED "it has devices, FIFOs, sockets, owners or attributes"

/* Of the finished tree. A descriptor, or -errno with a line on standard error; -EBADMSG: PACK_REFUSED. */
int pack_tree(const struct work *w);
/* From the stream, into the tree and the space of the job. 0, or what work_fail() returned. */
int pack_take_tree(struct work *w, int from, uint64_t size);
/* Whoever builds the tree after this finds its directory empty. */
void pack_clear(const char *path);
