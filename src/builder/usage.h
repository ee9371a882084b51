/* SPDX-License-Identifier: MIT */
/* What a build has cost so far: this process, and those it has started and waited for. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct usage {
	uint64_t cpu_ns;
	uint64_t peak_bytes; /* resident, of the largest of these processes; 0: not known */
};

struct usage usage_of_build(void);

/* Pages and entries of a tree to which somebody is writing: what comes or goes meanwhile may be counted or not. */
uint64_t usage_of_tree(const char *dir);
/* Bytes of memory of all descendants of this process; what several have is counted in parts (the Pss of proc_pid_smaps(5)). */
uint64_t usage_of_descendants(void);
/* Of one process: all that is its own, also where its forks have it in common, and in parts what it has of files. */
uint64_t usage_of_template(pid_t pid);
