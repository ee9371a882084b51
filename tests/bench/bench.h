/* SPDX-License-Identifier: MIT */
/*
 * The benchmarks: every row measures fixd and what a user would have instead, or the physical floor, in turn in one run, so that
 * a noisy machine is noisy for both. Rows go to standard output as a table, and to a file as JSON.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "contrib/demo/measure.h"

/* A row: ours against theirs, lower is better unless `reach` says at least. */
struct row {
	const char *what;
	const char *against;
	const char *unit;
	double ours, ours_p99;
	double theirs, theirs_p99;
	double reach; /* of ours / theirs; 0: only reported */
	bool at_least;
};

void row_add(struct row r);
/* What was measured in pairs: the median of their ratios. */
void row_add_paired(struct row r, double ratio);

/* A figure with an absolute limit; 0: only reported. */
void figure_add(const char *what, const char *unit, double value, double limit);

/* A daemon of its own, in a directory of its own. */
struct bench_daemon {
	char dir[64], socket[96];
	pid_t pid;
	double ready_s; /* from exec to READY */
};

struct bench_daemon bench_daemon_start(const char *ini, int cpu);
void bench_daemon_stop(struct bench_daemon *d);
char *bench_path(const struct bench_daemon *d, const char *name); /* static */

_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void bench_pin(int cpu);
/* CPU seconds a process has used. */
double bench_cpu_s(pid_t pid);

void bench_attach(void);
void bench_memory(void);
void bench_throughput(void);
void bench_daemon_itself(void);
void bench_floods(void);
void bench_run(void);
/* `bench child ...`: what is measured, in a process of its own. */
int bench_run_child(int argc, char **argv);
