/* SPDX-License-Identifier: MIT */
/*
 * Objects as one stream of bytes: what says where they lay (wire/carry.h), and their image.
 *
 * Promises: what is taken is right at the address that this job has for it, or is refused; what it points into is, by its digest, what it pointed
 * into where it was built.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct work;

/* What comes before the image: a descriptor, or -errno. */
int pack_objects_head(const struct work *w);
/* From the stream, which the process `pid` writes, into the space of the job. 0, or what work_fail() returned. */
int pack_take_objects(struct work *w, int from, uint64_t size, pid_t pid);
