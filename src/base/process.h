/* SPDX-License-Identifier: MIT */
/*
 * Which process is this? Cheap enough to ask before every use of something that a forked child must not share: no system
 * call where the kernel can wipe a page on fork (Linux 4.14), which also sees a raw clone(). Any thread.
 */
#pragma once

#include <sys/types.h>

pid_t process_id(void);

/* A descriptor of that process (pidfd_open(2)), or -errno. */
int process_open(pid_t pid);
