/* SPDX-License-Identifier: MIT */
/* What a build has cost so far: this process, and those it has started and waited for. */
#pragma once

#include <stdint.h>

struct usage {
	uint64_t cpu_ns;
	uint64_t peak_bytes; /* resident, of the largest of these processes; 0: not known */
};

struct usage usage_of_build(void);
