/* SPDX-License-Identifier: MIT */
#include "fixctl/bench.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/units.h"
#include "fixctl/fixctl.h"

#define EXIT_INTERRUPTED (128 + SIGINT)

static void bench_on_interrupt(int signal)
{
	(void)signal;
	bench_interrupted = 1;
}

json_t *bench_load(const char *command, const char *option, const char *path)
{
	json_error_t error;
	json_t *old = json_load_file(path, 0, &error);

	if (!json_is_array(json_object_get(old, "fixtures")))
		ctl_misuse(command, "%s %s: that is no output of fixctl bench --json%s%s", option, path, old ? "" : ": ",
			   old ? "" : error.text);
	return old;
}

static size_t parse_count(const char *option, const char *s, uint64_t most)
{
	uint64_t n;

	if (parse_u64(s, 10, most, &n) < 0 || n == 0)
		ctl_misuse("bench", "--%s %s: expected a number from 1 to %llu", option, s, (unsigned long long)most);
	return (size_t)n;
}

static bool some_failed(const json_t *results)
{
	const json_t *all = json_object_get(results, "fixtures");

	for (size_t k = 0; k < json_array_size(all); k++) {
		if (strcmp(ctl_string(json_array_get(all, k), "status"), "Success") != 0)
			return true;
	}
	return false;
}

static int measure(struct fixctl *ctl, const struct bench_options *o, const json_t *old, double threshold)
{
	json_t *results = NULL;
	size_t worse = 0;
	bool failed;
	int code = bench_measure(ctl, o, &results);

	if (code)
		return code;
	if (ctl->json)
		ctl_print_json(results);
	else
		bench_print(results);
	if (old) {
		/* Beside JSON for a program, words for people. */
		if (ctl->json)
			dup2(STDERR_FILENO, (fflush(stdout), STDOUT_FILENO));
		worse = bench_compare(results, old, threshold);
	}
	failed = some_failed(results);
	json_decref(results);
	return bench_interrupted ? EXIT_INTERRUPTED : worse ? EXIT_REFUSED : failed ? EXIT_BUILD_FAILED : EXIT_SUCCESS;
}

static int bench_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "runs", required_argument, NULL, 'n' },
		{ "timeout", required_argument, NULL, 't' },
		{ "max-fixtures", required_argument, NULL, 'm' },
		{ "compare", required_argument, NULL, 'C' },
		{ "threshold", required_argument, NULL, 'T' },
		{ "imports", no_argument, NULL, 'i' },
		{ "json", no_argument, NULL, 'j' },
		{ NULL, 0, NULL, 0 },
	};
	const struct sigaction on_signal = { .sa_handler = bench_on_interrupt };
	struct bench_options o = { .runs = 5, .timeout_ms = 120000, .progress = isatty(STDERR_FILENO) };
	json_t *old = NULL;
	double threshold = 0.2;
	bool imports = false;
	int64_t timeout;
	int c, code;

	while ((c = getopt_long(argc, argv, "c:n:t:m:C:T:ij", options, NULL)) >= 0) {
		switch (c) {
		case 'c':
			o.config = optarg;
			break;
		case 'n':
			o.runs = parse_count("runs", optarg, 1000);
			break;
		case 't':
			if (parse_duration(optarg, &timeout) < 0 || timeout <= 0 || timeout > INT32_MAX * NSEC_PER_MSEC)
				ctl_misuse("bench", "--timeout %s: expected a number above 0 with ms, s, m or h", optarg);
			o.timeout_ms = (int)(timeout / NSEC_PER_MSEC);
			break;
		case 'm':
			o.max_fixtures = parse_count("max-fixtures", optarg, 1000000);
			break;
		case 'C':
			json_decref(old);
			old = bench_load("bench", "--compare", optarg);
			break;
		case 'T':
			threshold = (double)parse_count("threshold", optarg, 10000) / 100;
			break;
		case 'i':
			imports = true;
			break;
		case 'j':
			ctl->json = true;
			break;
		default:
			ctl_bad_option("bench");
		}
	}
	if (imports && optind == argc)
		ctl_misuse("bench", "--imports: a command is missing");
	if (imports)
		return bench_imports(argv + optind);
	o.names = optind < argc ? argv + optind : NULL;
	sigaction(SIGINT, &on_signal, NULL);
	code = measure(ctl, &o, old, threshold);
	json_decref(old);
	return code;
}

const struct fixctl_command command_bench = {
	.name = "bench",
	.json = true,
	.run = bench_run,
	.summary = "measure the builds of fixtures, and imports",
	.help = "bench [OPTION...] [NAME-GLOB...]\n"
		"       fixctl bench --imports -- COMMAND [ARGUMENT...]\n"
		"Builds each fixture several times in a daemon of its own, and measures: time, processor time and memory of the\n"
		"build, over a builder that does nothing; size; page-in, attach and reset. Ctrl-C keeps what was measured.\n"
		"\n"
		"  -c, --config FILE      fixtures of that file (default: that of the running daemon)\n"
		"  -n, --runs N           so often each (default: 5)\n"
		"  -t, --timeout D        of one build (default: 2m)\n"
		"  -m, --max-fixtures N   only the first N\n"
		"  -C, --compare FILE     with what --json has printed earlier: exit status 1 if something is worse\n"
		"  -T, --threshold N      by more than N percent and the noise (default: 20)\n"
		"  -j, --json             all of it as JSON; the keys are in fixctl(1)\n"
		"  -i, --imports          run a Python program, and draw what its imports take",
};
