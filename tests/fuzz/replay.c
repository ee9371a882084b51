/* SPDX-License-Identifier: MIT */
/*
 * A fuzz target without libFuzzer, as a test: the same random inputs every time, the ones that have failed once, and the files of
 * the command line. FUZZ_ROUNDS=N for more random ones.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>

#include "input.h"
#include "tap.h"

#define SIZE_MAX_OF_INPUT 4096

static uint64_t state = 88172645463325252ULL;

/* xorshift64 (Marsaglia, Xorshift RNGs, 2003) */
static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static void random_inputs(void)
{
	const char *s = getenv("FUZZ_ROUNDS");
	size_t n = s ? (size_t)strtoul(s, NULL, 10) : 2000;

	for (size_t k = 0; k < n; k++) {
		size_t size = next() % (k % 8 ? 256 : SIZE_MAX_OF_INPUT);
		/* Exactly so many, so that a sanitizer sees their end. */
		uint8_t *bytes = malloc(size + !size);

		check(bytes);
		/* Small numbers are what most operations are made of. */
		for (size_t i = 0; i < size; i++)
			bytes[i] = (uint8_t)(next() % (next() % 4 ? 256 : 16));
		LLVMFuzzerTestOneInput(bytes, size);
		free(bytes);
	}
	fuzz_end();
}

static void file(const char *path)
{
	static uint8_t bytes[1 << 20];
	FILE *f = fopen(path, "re");
	size_t n;

	check(f);
	n = fread(bytes, 1, sizeof bytes, f);
	fclose(f);
	LLVMFuzzerTestOneInput(bytes, n);
}

static void files_that_have_failed(void)
{
	const char *src = getenv("FIXD_SRC");
	char pattern[4096];
	glob_t found;

	snprintf(pattern, sizeof pattern, "%s/tests/fuzz/failed/%s-*", src ? src : ".", program_invocation_short_name);
	if (glob(pattern, 0, NULL, &found))
		return;
	for (size_t k = 0; k < found.gl_pathc; k++)
		file(found.gl_pathv[k]);
	globfree(&found);
	fuzz_end();
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = { TAP_TEST(random_inputs), TAP_TEST(files_that_have_failed) };

	if (argc < 2)
		return tap_run(tests, (int)(sizeof tests / sizeof *tests));
	for (int i = 1; i < argc; i++)
		file(argv[i]);
	fuzz_end();
	return 0;
}
