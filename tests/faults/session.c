/* SPDX-License-Identifier: MIT */
/*
 * All that a client does, once: session SOCKET ROOT. Whatever fails has a sentence, and the next thing is tried. Ends with 0, with 3 if
 * there was no connection, with 1 if a call failed without a sentence or gave wrong bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixd.h"

static int wrong;

static bool works(struct fixd *f, const char *what, int64_t r)
{
	const char *sentence = fixd_error(f);

	if (r >= 0)
		return true;
	printf("%s: %s\n", what, sentence);
	if (strlen(sentence) < 10) {
		printf("%s: no sentence for %lld\n", what, (long long)r);
		wrong = 1;
	}
	return false;
}

static void compare(const struct fixd_view *v, const char *expected)
{
	if (fixd_view_size(v) == strlen(expected) && !memcmp(fixd_view_data(v), expected, strlen(expected)))
		return;
	printf("wrong bytes: not %s", expected);
	wrong = 1;
}

static void attach(struct fixd *f, const char *name, unsigned flags, const char *expected)
{
	const struct fixd_options o = { .size = sizeof o, .flags = flags, .timeout_ms = 10000 };
	struct fixd_range ranges[4];
	struct fixd_view *v;

	if (!works(f, name, fixd_attach(f, name, &o, &v)))
		return;
	if (expected)
		compare(v, expected);
	if (flags & FIXD_COW) {
		*(char *)fixd_view_root(v) = '!';
		works(f, "changes", fixd_view_changes(v, ranges, 4));
		if (works(f, "reset", fixd_view_reset(v)) && expected)
			compare(v, expected);
	}
	fixd_detach(v);
}

static void build(struct fixd *f)
{
	const struct fixd_teardown t = { .size = sizeof t, .note = "note", .note_size = 4 };
	struct fixd_view *v = NULL;
	struct fixd_build *b = NULL;
	void *note = NULL, *memory;
	size_t size;

	if (!works(f, "build", fixd_build_begin(f, "made", NULL, &v, &b)))
		return;
	if (b) {
		memory = fixd_build_memory(b, 5);
		if (!memory) {
			works(f, "memory", -1);
			works(f, "abort", fixd_build_abort(b, "no memory"));
			return;
		}
		memcpy(memory, "made\n", 5);
		if (!works(f, "commit", fixd_build_commit(b, 5, &t, &v)))
			return;
	}
	compare(v, "made\n");
	works(f, "release", fixd_release(v, 0, &note, &size));
	free(note);
	fixd_detach(v);
}

int main(int argc, char **argv)
{
	static const char *const settings[] = { "scope=session", NULL };
	void *note = NULL;
	char *title = NULL;
	struct fixd *f;
	size_t size;

	if (argc < 3)
		return 2;
	if (!works(NULL, "open", fixd_open(&f, argv[1])))
		return wrong ? wrong : 3;
	works(f, "join", fixd_join(f, argv[2], "run", 0));
	works(f, "define", fixd_define(f, "made", settings));
	fixd_set_test(f, "a test");
	attach(f, "plain", FIXD_RO, "one\n");
	attach(f, "plain", FIXD_COW, "one\n");
	attach(f, "objects", FIXD_COW, NULL);
	attach(f, "tree", FIXD_RO, NULL);
	build(f);
	fixd_run_done(f);
	if (works(f, "adopt", fixd_claim_teardown(f, "*", &title, &note, &size)))
		free(title);
	free(note);
	fixd_close(f);
	return wrong;
}
