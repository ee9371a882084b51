/* SPDX-License-Identifier: MIT */
/* Control groups: what really holds this process, which may be any group above its own (cgroups(7)). Any thread. */
#pragma once

#include <stdint.h>

/* Bytes of memory that it may have; UINT64_MAX: no group limits it. */
uint64_t cgroup_memory_max(void);
