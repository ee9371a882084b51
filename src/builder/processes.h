/* SPDX-License-Identifier: MIT */
/* Process groups, descendants, and finding processes by what their environment says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Starts a shell command in a process group of its own, with the signals of a fresh process and its standard output at `out`
 * (-1: with its standard error). It is killed when this process is. Its pid, or -errno.
 */
pid_t processes_start(const char *command, int out);

/* To the process group (0: none), and to every child of this process. */
void processes_signal_children(pid_t group, int signal);

/*
 * From now on whoever loses its parent among our descendants is our child; and the end of all of them, with SIGKILL. Of a process with
 * one thread; async-signal-safe. Who is begun behind it is left alone. It gives up after a second, and at once where the kernel does
 * not list children (CONFIG_PROC_CHILDREN).
 */
void processes_adopt(void);
void processes_end_all(void);
/* And of this process, with its group. */
_Noreturn void processes_die(void);

/* Calls `fn` for every process, or for every descendant of this one and all of the group (0: none). Whether it has said true of one. */
bool processes_each(bool (*fn)(pid_t pid, void *arg), void *arg);
bool processes_each_descendant(pid_t group, bool (*fn)(pid_t pid, void *arg), void *arg);

/* A descendant of this one that works in the directory: it is there, or has a file open there. 0: none that can be seen. */
pid_t processes_inside(const char *dir);

/*
 * To every process whose environment has JOB_TOKEN=`token`, and to those of the process group if it is one of theirs (0: none).
 * Then waits at most `wait_ms` for one of them to end. Returns how many there were.
 */
size_t processes_signal_marked(const char *token, pid_t group, int signal, int wait_ms);

/* Which process listens on the TCP port and was there before `newcomer`? 0: none that can be found. */
pid_t processes_older_listener(unsigned port, pid_t newcomer);
