/* SPDX-License-Identifier: MIT */
/*
 * Which process is this? Cheap enough to ask before every use of something that a forked child must not share: no system
 * call where the kernel can wipe a page on fork (Linux 4.14), which also sees a raw clone(). Any thread.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

pid_t process_id(void);

/* It is a child of ours that lives: its number is nobody else's. */
bool process_is_child(pid_t pid);
/* A descriptor of that process (pidfd_open(2)), or -errno. */
int process_open(pid_t pid);
