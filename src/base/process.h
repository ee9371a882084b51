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
/*
 * As kill(2), also of a group (-pid). Where a filter refuses that it is done by pidfd_send_signal(2), which kernels before 6.9 can send to the
 * first process of a group only. 0 or -errno.
 */
int process_kill(pid_t pid, int signal);
/* A descriptor of that process (pidfd_open(2)), or -errno. */
int process_open(pid_t pid);
