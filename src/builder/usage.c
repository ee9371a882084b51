/* SPDX-License-Identifier: MIT */
#include "builder/usage.h"

#include <stdio.h>
#include <fts.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "builder/processes.h"
#include "image/manifest.h"

static uint64_t cpu_of(const struct rusage *r)
{
	return (uint64_t)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) * 1000000000 +
	       (uint64_t)(r->ru_utime.tv_usec + r->ru_stime.tv_usec) * 1000;
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

uint64_t usage_of_tree(const char *dir)
{
	char *const roots[] = { (char *)dir, NULL };
	FTS *fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	uint64_t bytes = 0;
	const FTSENT *e;

	while (fts && (e = fts_read(fts))) {
		bool file = e->fts_info == FTS_F || e->fts_info == FTS_SL || e->fts_info == FTS_DEFAULT;
		uint64_t names = file && e->fts_statp->st_nlink ? e->fts_statp->st_nlink : 1;

		/* A file is found by each of its names. */
		if (file || e->fts_info == FTS_D)
			bytes += (uint64_t)e->fts_statp->st_blocks * 512 / names + MANIFEST_ENTRY;
	}
	if (fts)
		fts_close(fts);
	return bytes;
}

/* The sum of these lines of proc_pid_smaps(5), summed up. */
static uint64_t rollup(pid_t pid, const char *const *names, size_t n_names)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/smaps_rollup", (int)pid);
	FILE *f = fopen(path, "re");
	unsigned long long kib, sum = 0;
	char line[256], name[64];

	while (f && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%63[^:]: %llu", name, &kib) != 2)
			continue;
		for (size_t i = 0; i < n_names; i++)
			sum += strcmp(name, names[i]) ? 0 : kib;
	}
	if (f)
		fclose(f);
	return (uint64_t)sum * 1024;
}

static bool add_pss(pid_t pid, void *arg)
{
	static const char *const name[] = { "Pss" };

	*(uint64_t *)arg += rollup(pid, name, ELEMENTSOF(name));
	return false;
}

uint64_t usage_of_template(pid_t pid)
{
	static const char *const names[] = { "Anonymous", "Pss_File", "Pss_Shmem" };

	return rollup(pid, names, ELEMENTSOF(names));
}

uint64_t usage_of_descendants(void)
{
	uint64_t bytes = 0;

	processes_each_descendant(0, add_pss, &bytes);
	return bytes;
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
