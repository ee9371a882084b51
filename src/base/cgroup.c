/* SPDX-License-Identifier: MIT */
#include "base/cgroup.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOT "/sys/fs/cgroup"

static uint64_t limit_of(const char *directory, const char *file)
{
	char path[PATH_MAX + 64];
	unsigned long long limit = UINT64_MAX;
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", directory, file);
	f = fopen(path, "re");
	/* "max" is no number. */
	if (f && fscanf(f, "%llu", &limit) != 1)
		limit = UINT64_MAX;
	if (f)
		fclose(f);
	return limit;
}

/* The least of a group's and of all above it. */
static uint64_t least_of(const char *mount, char *group, const char *file)
{
	char directory[PATH_MAX];
	uint64_t least = UINT64_MAX, limit;

	for (;;) {
		char *slash = strrchr(group, '/');

		if (snprintf(directory, sizeof directory, "%s%s", mount, group) < (int)sizeof directory) {
			limit = limit_of(directory, file);
			least = limit < least ? limit : least;
		}
		if (!slash || !*group)
			return least;
		*slash = '\0';
	}
}

uint64_t cgroup_memory_max(void)
{
	FILE *f = fopen("/proc/self/cgroup", "re");
	uint64_t least = UINT64_MAX, limit;
	char line[PATH_MAX + 256];

	while (f && fgets(line, sizeof line, f)) {
		char *kind = strchr(line, ':'), *group = kind ? strchr(kind + 1, ':') : NULL;

		line[strcspn(line, "\n")] = '\0';
		if (!group)
			continue;
		*group++ = '\0';
		if (!kind[1])
			limit = least_of(ROOT, group, "memory.max");
		else if (!strcmp(kind + 1, "memory"))
			limit = least_of(ROOT "/memory", group, "memory.limit_in_bytes");
		else
			continue;
		least = limit < least ? limit : least;
	}
	if (f)
		fclose(f);
	/* What version 1 shows when there is no limit. */
	return least >= INT64_MAX / 4096 * 4096 ? UINT64_MAX : least;
}
