/* SPDX-License-Identifier: MIT */
/* The benchmarks: those that are named, or all; each prints its rows, both sides of a comparison from one run. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static json_t *results;

void bench_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static const char *verdict(bool measured, bool reached)
{
	return !measured ? "" : reached ? "reached" : "MISSED";
}

void row_add(struct row r)
{
	row_add_paired(r, r.ours / r.theirs);
}

void row_add_paired(struct row r, double ratio)
{
	bool reached = r.at_least ? ratio >= r.reach : ratio <= r.reach;
	char reach[24] = "";

	if (r.reach > 0)
		snprintf(reach, sizeof reach, "%s %.2f x", r.at_least ? ">=" : "<=", r.reach);
	printf("%-44s %10.2f %10.2f %10.2f %10.2f %-5s %7.2f x  %-9s %s\n  against %s\n", r.what, r.ours, r.ours_p99, r.theirs,
	       r.theirs_p99, r.unit, ratio, reach, verdict(r.reach > 0, reached), r.against);
	fflush(stdout);
	json_array_append_new(results, json_pack("{s:s,s:s,s:s,s:f,s:f,s:f,s:f,s:f,s:f}", "what", r.what, "against", r.against, "unit",
						 r.unit, "ours", r.ours, "ours_p99", r.ours_p99, "theirs", r.theirs, "theirs_p99",
						 r.theirs_p99, "ratio", ratio, "reach", r.reach));
}

void figure_add(const char *what, const char *unit, double value, double limit)
{
	char reach[24] = "";

	if (limit > 0)
		snprintf(reach, sizeof reach, "< %.0f %s", limit, unit);
	printf("%-44s %10.2f %-43s %10s %-9s %s\n", what, value, unit, "", reach, verdict(limit > 0, value < limit));
	fflush(stdout);
	json_array_append_new(results, json_pack("{s:s,s:s,s:f,s:f}", "what", what, "unit", unit, "ours", value, "limit", limit));
}

void bench_pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (cpu >= 0)
		sched_setaffinity(0, sizeof set, &set);
}

double bench_cpu_s(pid_t pid)
{
	char path[64], text[1024], *p;
	unsigned long user, system;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof text, f) || !(p = strrchr(text, ')')) ||
	    sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
		bench_die("%s cannot be read", path);
	fclose(f);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

char *bench_path(const struct bench_daemon *d, const char *name)
{
	static char path[160];

	snprintf(path, sizeof path, "%s/%s", d->dir, name);
	return path;
}

struct bench_daemon bench_daemon_start(const char *ini, int cpu)
{
	const char *build = getenv("FIXD_BUILD");
	struct bench_daemon d = { .dir = "/tmp/fixd-bench-XXXXXX" };
	char program[4096], number[16], byte;
	int ready[2];
	double start;
	FILE *f;

	if (!build || !mkdtemp(d.dir) || pipe(ready) < 0)
		bench_die("FIXD_BUILD is not set, or no directory");
	snprintf(d.socket, sizeof d.socket, "%s/socket", d.dir);
	snprintf(program, sizeof program, "%s/fixd", build);
	snprintf(number, sizeof number, "%d", ready[1]);
	f = fopen(bench_path(&d, "fixd.ini"), "w");
	if (!f || fputs(ini, f) < 0 || fclose(f) != 0)
		bench_die("%s cannot be written", bench_path(&d, "fixd.ini"));
	start = measure_now();
	d.pid = fork();
	if (d.pid == 0) {
		bench_pin(cpu);
		close(ready[0]);
		execl(program, "fixd", "--config", bench_path(&d, "fixd.ini"), "--socket", d.socket, "--ready-fd", number, "--log-level",
		      "error", (char *)NULL);
		_exit(127);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		bench_die("%s does not start", program);
	d.ready_s = measure_now() - start;
	close(ready[0]);
	return d;
}

void bench_daemon_stop(struct bench_daemon *d)
{
	char command[128];

	kill(d->pid, SIGTERM);
	waitpid(d->pid, NULL, 0);
	snprintf(command, sizeof command, "rm -rf '%s'", d->dir);
	if (system(command) != 0)
		bench_die("%s cannot be removed", d->dir);
}

static const struct {
	const char *name;
	void (*run)(void);
} parts[] = {
	{ "attach", bench_attach },	   { "memory", bench_memory }, { "throughput", bench_throughput },
	{ "daemon", bench_daemon_itself }, { "floods", bench_floods }, { "run", bench_run },
};

int main(int argc, char **argv)
{
	struct utsname u;

	if (argc > 3 && !strcmp(argv[1], "child"))
		return bench_run_child(argc, argv);
	uname(&u);
	results = json_array();
	printf("Linux %s, %ld processors\n\n%-44s %10s %10s %10s %10s %-5s %9s  %s\n", u.release, sysconf(_SC_NPROCESSORS_ONLN), "",
	       "fixd p50", "p99", "other p50", "p99", "", "ratio", "reach");
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (argc < 2 || !strcmp(argv[1], parts[i].name))
			parts[i].run();
	}
	if (json_dump_file(results, "bench.json", JSON_INDENT(2)) < 0)
		bench_die("bench.json cannot be written");
	json_decref(results);
	return 0;
}
