/* SPDX-License-Identifier: MIT */
/* What the daemon itself costs. */
#include <unistd.h>

#include "bench.h"
#include "fixd.h"

void bench_daemon_itself(void)
{
	enum { ROUNDS = 11 };
	double ready[ROUNDS], rss = 0;
	char ini[100 * 64] = "";
	int n = 0;

	for (int i = 0; i < 100; i++)
		n += snprintf(ini + n, sizeof ini - (size_t)n, "[fixture f%d]\ncommand = echo %d\n", i, i);
	for (int r = 0; r < ROUNDS; r++) {
		struct bench_daemon d = bench_daemon_start(ini, -1);

		ready[r] = d.ready_s * 1e3;
		rss = (double)measure_proc_kib(d.pid, "status", "VmRSS: %ld") / 1024;
		bench_daemon_stop(&d);
	}
	figure_add("start to READY, 100 fixtures", "ms", measure_quantile(ready, ROUNDS, 0.5), 20);
	figure_add("start to READY, p99", "ms", measure_quantile(ready, ROUNDS, 0.99), 0);
	figure_add("idle daemon, RSS", "MiB", rss, 4);
}
