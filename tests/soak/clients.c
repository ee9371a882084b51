/* SPDX-License-Identifier: MIT */
/*
 * clients SOCKET DIR N SECONDS: N processes that attach, write to, reset and release fixtures, while this one edits their input every
 * now and then. The input is one number, many times: what is attached must be one number (nothing is torn), and none that was
 * replaced before the request (nothing is stale). Who is killed is replaced. Prints the counts as JSON in the end, or at SIGTERM; status 1 if any byte was wrong.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fixd.h"

#define LINES 2000
#define EDIT_MS 100
#define RECONNECT 200 /* attaches, on average */

struct counts {
	_Atomic uint64_t written; /* the last number that the input has had, completely */
	_Atomic uint64_t edits, attaches, builds, stale, torn, refused, unsettled, failed, killed;
	_Atomic bool stop;
	char last_failure[500];
};

static struct counts *counts;
static volatile sig_atomic_t ended;

static void on_end(int signal)
{
	(void)signal;
	ended = 1;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static void edit(const char *dir, uint64_t number)
{
	char path[600], fresh[600];
	FILE *f;

	snprintf(path, sizeof path, "%s/input", dir);
	snprintf(fresh, sizeof fresh, "%s/input.new", dir);
	f = fopen(fresh, "we");
	for (int k = 0; f && k < LINES; k++)
		fprintf(f, "%llu\n", (unsigned long long)number);
	if (!f || fclose(f) || rename(fresh, path) < 0) {
		perror(path);
		exit(2);
	}
	atomic_store(&counts->written, number);
	atomic_fetch_add(&counts->edits, 1);
}

static bool is_one_number(const char *data, size_t size, uint64_t *number)
{
	size_t line = 0;
	char *end;

	*number = strtoull(data, &end, 10);
	line = (size_t)(end - data) + 1;
	if (size != line * LINES)
		return false;
	for (size_t at = line; at < size; at += line) {
		if (memcmp(data, data + at, line) != 0)
			return false;
	}
	return true;
}

static void look(struct fixd_view *v, bool edited, uint64_t least)
{
	uint64_t number = 0;

	atomic_fetch_add(&counts->attaches, 1);
	if (fixd_view_built(v))
		atomic_fetch_add(&counts->builds, 1);
	if (!edited)
		return;
	if (!is_one_number(fixd_view_data(v), fixd_view_size(v), &number))
		atomic_fetch_add(&counts->torn, 1);
	else if (number < least)
		atomic_fetch_add(&counts->stale, 1);
}

static void failed(const struct fixd *f, int r)
{
	bool passing = r == -ECONNREFUSED || r == -ECONNRESET || r == -ENOENT || r == -ETIMEDOUT || r == -EPIPE;

	/* Where 1,000 clients share two processors, a build may take longer than the time between two edits. */
	bool unsettled = r == -EIO && strstr(fixd_error(f), "inputs changed during each of");

	atomic_fetch_add(passing ? &counts->refused : unsettled ? &counts->unsettled : &counts->failed, 1);
	if (!passing && !unsettled)
		snprintf(counts->last_failure, sizeof counts->last_failure, "%s", fixd_error(f));
	pause_ms(5);
}

static void use(struct fixd *f, unsigned *seed)
{
	static const char *const names[] = { "edited", "edited", "edited", "still", "still", "served", "tree" };
	size_t k = (size_t)rand_r(seed) % (sizeof names / sizeof *names);
	const struct fixd_options o = { .size = sizeof o, .flags = rand_r(seed) % 4 ? FIXD_RO : FIXD_COW, .timeout_ms = 20000 };
	uint64_t least = atomic_load(&counts->written);
	struct fixd_view *v;
	int r = fixd_attach(f, names[k], &o, &v);

	if (r < 0) {
		failed(f, r);
		return;
	}
	look(v, k < 3, least);
	if (o.flags & FIXD_COW) {
		memset(fixd_view_root(v), '!', 1);
		if (fixd_view_reset(v) < 0)
			failed(f, -EIO);
		look(v, k < 3, least);
	}
	fixd_detach(v);
}

static void client(const char *socket, const char *dir, unsigned seed)
{
	struct fixd *f = NULL;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (!atomic_load(&counts->stop)) {
		int r = f ? 0 : fixd_open(&f, socket);

		if (r < 0) {
			failed(NULL, r);
			continue;
		}
		if (rand_r(&seed) % 4 == 0)
			fixd_join(f, dir, rand_r(&seed) % 2 ? "run" : NULL, 0);
		for (int k = rand_r(&seed) % (2 * RECONNECT); k > 0 && !atomic_load(&counts->stop); k--) {
			use(f, &seed);
			pause_ms(rand_r(&seed) % 20);
		}
		fixd_close(f);
		f = NULL;
	}
	exit(0);
}

static pid_t begin(const char *socket, const char *dir, unsigned seed)
{
	pid_t pid = fork();

	if (pid == 0)
		client(socket, dir, seed);
	return pid;
}

static void replace_killed(const char *socket, const char *dir, unsigned *seed)
{
	while (waitpid(-1, NULL, WNOHANG) > 0) {
		atomic_fetch_add(&counts->killed, 1);
		begin(socket, dir, ++*seed);
	}
}

int main(int argc, char **argv)
{
	unsigned seed = 0;
	uint64_t number = 0;
	double end;

	if (argc != 5)
		return 2;
	counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (counts == MAP_FAILED)
		return 2;
	edit(argv[2], ++number);
	for (int k = atoi(argv[3]); k > 0; k--)
		begin(argv[1], argv[2], ++seed);
	/* Who started it may end it before. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGTERM, on_end);
	for (end = now() + atof(argv[4]); now() < end && !ended;) {
		edit(argv[2], ++number);
		replace_killed(argv[1], argv[2], &seed);
		pause_ms(EDIT_MS);
	}
	atomic_store(&counts->stop, true);
	while (waitpid(-1, NULL, 0) > 0)
		;
	printf("{\"edits\": %llu, \"attaches\": %llu, \"builds\": %llu, \"stale\": %llu, \"torn\": %llu, \"refused\": %llu, \"unsettled\": %llu, \"failed\": %llu, "
	       "\"killed\": %llu, \"last_failure\": \"%.200s\"}\n",
	       (unsigned long long)counts->edits, (unsigned long long)counts->attaches, (unsigned long long)counts->builds,
	       (unsigned long long)counts->stale, (unsigned long long)counts->torn, (unsigned long long)counts->refused,
	       (unsigned long long)counts->unsettled, (unsigned long long)counts->failed, (unsigned long long)counts->killed,
	       counts->last_failure);
	return counts->stale || counts->torn;
}
