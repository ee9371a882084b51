/* SPDX-License-Identifier: MIT */
#include "builder/usage.h"

#include <stdio.h>
#include <sys/resource.h>

static uint64_t cpu_of(const struct rusage *r)
{
	return (uint64_t)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000000 + (uint64_t)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) * 1000;
}

/* Not ru_maxrss, which has kept what the daemon was when it started us (getrusage(2): it is preserved across execve). */
static uint64_t own_peak(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	unsigned long long kib = 0;

	while (f && fgets(line, sizeof line, f) && sscanf(line, "VmHWM: %llu", &kib) != 1)
		;
	if (f)
		fclose(f);
	return kib * 1024;
}

struct usage usage_of_build(void)
{
	struct rusage self = { 0 }, children = { 0 };
	struct usage u = { .peak_bytes = own_peak() };

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	u.cpu_ns = cpu_of(&self) + cpu_of(&children);
	if ((uint64_t)children.ru_maxrss * 1024 > u.peak_bytes)
		u.peak_bytes = (uint64_t)children.ru_maxrss * 1024;
	return u;
}
