/* SPDX-License-Identifier: MIT */
/* What processes take in memory. */
#include <signal.h>
#include <sys/wait.h>

#include "builder/usage.h"
#include "tap.h"

#define SIZE ((size_t)32 << 20)

extern char bytes[SIZE];
char bytes[SIZE];

/* A process that has what this one has. */
static pid_t fork_that_waits(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (;;)
			pause();
	}
	return pid;
}

static void a_template_takes_the_same_with_forks(void)
{
	uint64_t before, with;
	pid_t forks[3];

	memset(bytes, 1, sizeof bytes);
	before = usage_of_template(getpid());
	for (int i = 0; i < 3; i++)
		forks[i] = fork_that_waits();
	with = usage_of_template(getpid());
	for (int i = 0; i < 3; i++) {
		kill(forks[i], SIGKILL);
		waitpid(forks[i], NULL, 0);
	}
	check(before > SIZE && with > SIZE);
}

static void what_several_have_is_counted_once(void)
{
	uint64_t all;
	pid_t pid;

	memset(bytes, 1, sizeof bytes);
	pid = fork_that_waits();
	all = usage_of_descendants();
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	check(all > SIZE / 4 && all < SIZE * 3 / 4);
}

static const struct tap_test tests[] = { TAP_TEST(a_template_takes_the_same_with_forks), TAP_TEST(what_several_have_is_counted_once) };
TAP_MAIN(tests)
