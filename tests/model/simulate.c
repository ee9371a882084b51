/* SPDX-License-Identifier: MIT */
/*
 * Many random lives of the model (life.h). simulate [STEPS [SEED]]: what fails is told by its seed, and by the shortest history of the same
 * that fails, too. STEPS = 0: the life of that seed alone, in this process, for a debugger.
 */
#include "life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"

/* In a process of its own: it may end in any way. */
static bool fails(uint64_t seed, const uint32_t *words, size_t n, bool tell)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		size_t at;

		if (!tell && (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)))
			_exit(2);
		life_is_loud = tell;
		setvbuf(stdout, NULL, tell ? _IOLBF : _IOFBF, BUFSIZ); /* it may crash */
		at = live(seed, words, n);
		if (at)
			printf("# at step %zu: %s\n", at - 1, life_fault());
		fflush(stdout);
		_exit(at != 0);
	}
	waitpid(pid, &status, 0);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Leaves out what is not needed for it to fail, more and more of it at a time. */
static size_t shorten(uint64_t seed, uint32_t *words, size_t n)
{
	for (size_t part = n / 2; part > 0;) {
		bool shorter = false;

		for (size_t at = 0; at + part <= n;) {
			uint32_t *left = xcalloc(n, sizeof *left);

			memcpy(left, words, at * sizeof *left);
			memcpy(left + at, words + at + part, (n - at - part) * sizeof *left);
			if (fails(seed, left, n - part, false)) {
				memcpy(words, left, (n - part) * sizeof *left);
				n -= part;
				shorter = true;
			} else {
				at += part;
			}
			free(left);
		}
		if (!shorter || part > n / 2)
			part /= 2;
	}
	return n;
}

static uint64_t next(uint64_t *state)
{
	/* xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators" */
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(2685821657736338717);
}

static void make_history(uint64_t seed, uint32_t *words)
{
	uint64_t state = seed * 2 + 1;

	for (size_t k = 0; k < LIFE; k++)
		words[k] = (uint32_t)(next(&state) >> 32);
}

static bool one(uint64_t seed)
{
	uint32_t words[LIFE];
	size_t n;

	make_history(seed, words);
	n = shorten(seed, words, LIFE);
	printf("# seed %llu fails; the shortest of its kind:\n", (unsigned long long)seed);
	fails(seed, words, n, true);
	return false;
}

/* So many lives, a quarter of them in one process: a fault is looked for in each of these when that ends badly. */
#define LIVES 240

/* clang-format off */
static const uint64_t ways[] = { 0, WITH_CLONES, WITH_USERS, WITH_CLONES | WITH_USERS, WITH_RESTARTS, WITH_RESTARTS | WITH_CLONES, WITH_RESTARTS | WITH_USERS,
				 WITH_RESTARTS | WITH_CLONES | WITH_USERS, WITH_RESTARTS_IN_PLACE, WITH_RESTARTS_IN_PLACE | WITH_CLONES, WITH_RESTARTS_IN_PLACE | WITH_USERS,
				 WITH_RESTARTS_IN_PLACE | WITH_CLONES | WITH_USERS, WITH_RESTARTS_IN_PLACE | WITH_RESTARTS | WITH_CLONES | WITH_USERS };
/* clang-format on */

static bool lives(uint64_t first, uint64_t n)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
			_exit(2);
		for (uint64_t seed = first; seed < first + n; seed++) {
			uint32_t words[LIFE];

			make_history(seed, words);
			if (live(seed, words, LIFE))
				_exit(1);
		}
		_exit(0);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	for (uint64_t seed = first; seed < first + n; seed++) {
		uint32_t words[LIFE];

		make_history(seed, words);
		if (fails(seed, words, LIFE, false))
			return one(seed);
	}
	printf("# one of the seeds %llu to %llu fails behind the others\n", (unsigned long long)first, (unsigned long long)(first + n - 1));
	return false;
}

/* Those that have ever failed. */
/* clang-format off */
static const uint64_t failed[] = { 1, 3, 7, 216, 819, 100044, 106515, 1005969, 1019623, WITH_CLONES + 60, WITH_CLONES + 5199, (WITH_CLONES | WITH_USERS) + 1017,
				   WITH_USERS + 1956, (WITH_RESTARTS | WITH_CLONES) + 2, (WITH_RESTARTS | WITH_CLONES | WITH_USERS) + 82,
				   WITH_CLONES + 8, WITH_CLONES + 8363, (WITH_CLONES | WITH_USERS) + 25, WITH_RESTARTS_IN_PLACE + 11 };
/* clang-format on */

int main(int argc, char **argv)
{
	uint64_t steps = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000, seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	bool well = true, all;

	life_figures = mmap(NULL, sizeof *life_figures, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (life_figures == MAP_FAILED)
		return EXIT_FAILURE;
	if (steps == 0) {
		uint32_t words[LIFE];

		make_history(seed, words);
		life_is_loud = true;
		printf("# %zu: ", live(seed, words, LIFE));
		puts(life_fault() ? life_fault() : "nothing is wrong");
		return life_fault() != NULL;
	}
	puts("1..2");
	for (size_t k = 0; k < ELEMENTSOF(failed) && well; k++)
		well = lives(failed[k], 1);
	puts(well ? "ok 1 - seeds_that_have_failed" : "not ok 1 - seeds_that_have_failed");
	all = well;
	well = true;
	for (uint64_t done = 0; done < steps && well; done += LIVES * LIFE, seed += LIVES) {
		for (size_t k = 0; k < ELEMENTSOF(ways) && well; k++)
			well = lives(seed + ways[k], LIVES / ELEMENTSOF(ways));
	}
	puts(well ? "ok 2 - random_lives" : "not ok 2 - random_lives");
	printf("# %llu steps in %llu lives: %llu images were built, %llu torn down\n", (unsigned long long)life_figures->steps,
	       (unsigned long long)life_figures->lives, (unsigned long long)life_figures->built,
	       (unsigned long long)life_figures->torn_down);
	return all && well ? EXIT_SUCCESS : EXIT_FAILURE;
}
