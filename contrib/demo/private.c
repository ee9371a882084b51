/* SPDX-License-Identifier: MIT */
/*
 * The builders of plugin.c on plain malloc(): what every test process would do without fixd. `private COUNT` forks that many
 * processes, each of which parses WordNet for itself, and prints the time of one and the memory of all.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "builder/host.h"
#include "fixd-builder.h"
#include "measure.h"
#include "wordnet.h"

int build_wordnet(struct fixd_builder *b);
int build_hypernyms(struct fixd_builder *b);

static const void *roots[2];
static int n_roots;

static void *plain_alloc(struct fixd_builder *b, size_t align, size_t size)
{
	(void)b, (void)align;
	return calloc(1, size ? size : 1);
}

static void *plain_realloc(struct fixd_builder *b, void *p, size_t size)
{
	(void)b;
	return realloc(p, size);
}

static void plain_free(struct fixd_builder *b, void *p)
{
	(void)b;
	free(p);
}

static void plain_set_root(struct fixd_builder *b, const void *root)
{
	(void)b;
	roots[n_roots++] = root;
}

static const void *plain_dep(struct fixd_builder *b, const char *name, size_t *size)
{
	(void)b, (void)name, (void)size;
	return roots[0];
}

/* In the place of the library's, which knows only its own builders. Nobody is told of changes here. */
void fixd_builder_describe_objects(struct fixd_builder *b, const void *p, size_t n, size_t size, const char *type)
{
	(void)b, (void)p, (void)n, (void)size, (void)type;
}

static void plain_fail(struct fixd_builder *b, const char *sentence)
{
	(void)b;
	fprintf(stderr, "%s\n", sentence);
}

static const struct builder_host plain = {
	.alloc = plain_alloc,
	.realloc = plain_realloc,
	.free = plain_free,
	.set_root = plain_set_root,
	.dep = plain_dep,
	.fail = plain_fail,
};

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1, ready[2], go[2];
	struct fixd_builder b = { &plain, "private", "", "" };
	double total = 0;
	pid_t pids[64];
	long pss = 0;

	if (count < 1 || count > 64 || pipe(ready) < 0 || pipe(go) < 0 || !freopen("/dev/null", "w", stderr))
		return 2;
	for (int i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			double start = measure_now(), took;
			char c;

			if (build_wordnet(&b) != 0 || build_hypernyms(&b) != 0)
				_exit(1);
			took = measure_now() - start;
			close(go[1]);
			if (write(ready[1], &took, sizeof took) != sizeof took || read(go[0], &c, 1) < 0)
				_exit(1);
			_exit(0);
		}
	}
	for (int i = 0; i < count; i++) {
		double took;

		if (read(ready[0], &took, sizeof took) != sizeof took)
			return 1;
		total += took;
	}
	for (int i = 0; i < count; i++)
		pss += measure_pss_kib(pids[i]);
	close(go[1]);
	for (int i = 0; i < count; i++)
		waitpid(pids[i], NULL, 0);
	printf("private_build_s=%.3f\nprivate_pss_kib=%ld\n", total / count, pss / count);
	return 0;
}
