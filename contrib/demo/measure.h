/* SPDX-License-Identifier: MIT */
/* Reading clocks and /proc, for the demo and the benchmarks. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static inline double measure_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A field of a /proc file in KiB, like "Pss:"; -1 if it is not there. */
static inline long measure_proc_kib(pid_t pid, const char *file, const char *format)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
	f = fopen(path, "re");
	while (f && kib < 0 && fgets(line, sizeof line, f)) {
		if (sscanf(line, format, &kib) != 1)
			kib = -1;
	}
	if (f)
		fclose(f);
	return kib;
}

/* Its share of the memory it has mapped. */
static inline long measure_pss_kib(pid_t pid)
{
	return measure_proc_kib(pid, "smaps_rollup", "Pss: %ld");
}

static inline int measure_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts. `q` from 0 to 1. */
static inline double measure_quantile(double *values, size_t n, double q)
{
	qsort(values, n, sizeof *values, measure_compare);
	return n ? values[(size_t)(q * (double)(n - 1))] : 0;
}
