/* SPDX-License-Identifier: MIT */
/*
 * The test suite of the demo: forks 50 test processes. Each attaches the WordNet graph, read-only or copy-on-write, checks what
 * is known of WordNet 3.0, damages its copy if it has one, resets it and checks that it is pristine. Results go to standard
 * output as key=value, failures to standard error; the exit status is the number of processes that failed, at most 1.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixd.h"
#include "measure.h"
#include "wordnet.h"

#define PROCESSES 50
#define DAMAGE 64 /* synsets that are damaged */

struct result {
	double reset_s;
	int64_t pages;
	bool built;
};

#define check(what)                                                                          \
	do {                                                                                 \
		if (!(what)) {                                                               \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #what); \
			return false;                                                        \
		}                                                                            \
	} while (0)

/* wnstats(7WN) of WordNet 3.0. */
static bool check_counts(const struct wordnet *w)
{
	static const long synsets[WN_POS_COUNT] = { 82115, 13767, 18156, 3621 };

	for (int pos = 0; pos < WN_POS_COUNT; pos++)
		check(w->first[pos + 1] - w->first[pos] == synsets[pos]);
	check(w->n_synsets == 117659);
	check(w->n_lemmas == 155287);
	return true;
}

static const struct wn_lemma *find_lemma(const struct wordnet *w, const char *text, int pos)
{
	size_t low = 0, high = w->n_lemmas;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = strcmp(text, w->lemmas[mid].text);

		if (order == 0)
			order = pos - w->lemmas[mid].pos;
		if (order == 0)
			return &w->lemmas[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static bool check_dog(const struct wordnet *w, const struct wn_hypernyms *h)
{
	static const char *const up[] = { "dog",    "canine",	"carnivore",	"placental", "mammal", "vertebrate",	  "chordate",
					  "animal", "organism", "living_thing", "whole",     "object", "physical_entity", "entity" };
	const struct wn_lemma *dog = find_lemma(w, "dog", WN_NOUN);
	const struct wn_paths *paths;

	check(dog && dog->n_senses == 7);
	check(!strcmp(dog->senses[0]->words[0], "dog") && strstr(dog->senses[0]->gloss, "the dog barked all night"));
	check(h->wordnet == w);
	paths = &h->nouns[dog->senses[0] - w->first[WN_NOUN]];
	check(paths->n == 2 && paths->paths[0].length == sizeof up / sizeof *up);
	for (size_t i = 0; i < paths->paths[0].length; i++)
		check(!strcmp(paths->paths[0].nodes[i]->words[0], up[i]));
	return true;
}

/* Every pointer leads somewhere sensible: walks the whole graph. */
static bool check_graph(const struct wordnet *w)
{
	size_t words = 0, relations = 0, letters = 0, senses = 0;

	for (const struct wn_synset *s = w->synsets; s < w->synsets + w->n_synsets; s++) {
		words += s->n_words;
		relations += s->n_relations;
		letters += strlen(s->gloss);
		for (int i = 0; i < s->n_relations; i++)
			check(s->relations[i].target >= w->synsets && s->relations[i].target < w->synsets + w->n_synsets);
	}
	for (size_t i = 0; i < w->n_lemmas; i++)
		senses += w->lemmas[i].n_senses;
	check(senses == 206941);					    /* word-sense pairs of wnstats(7WN) */
	check(words == 206978 && relations == 377592 && letters > 1000000); /* counted in the files */
	return true;
}

static bool check_damage(struct fixd_view *v, struct wordnet *w, struct result *r)
{
	size_t step = w->n_synsets / DAMAGE;
	double start;

	for (size_t i = 0; i < DAMAGE; i++) {
		struct wn_synset *s = &w->synsets[i * step];

		s->gloss = "damaged";
		s->n_words = 0;
	}
	check(fixd_view_changes(v, NULL, 0) >= DAMAGE);
	start = measure_now();
	r->pages = fixd_view_reset(v);
	r->reset_s = measure_now() - start;
	check(r->pages >= 1 && r->pages <= DAMAGE * 2);
	check(fixd_view_changes(v, NULL, 0) == 0);
	return check_counts(w) && check_graph(w);
}

static bool run_test(int number, struct result *r)
{
	struct fixd_options options = { .size = sizeof options, .flags = number % 2 ? FIXD_COW : FIXD_RO };
	struct fixd_view *top;
	const struct wn_hypernyms *h;
	struct wordnet *w;
	struct fixd *f;
	bool ok;

	if (fixd_open(&f, NULL) < 0) {
		fprintf(stderr, "test %d: %s\n", number, fixd_error(NULL));
		return false;
	}
	if (fixd_attach(f, "hypernyms", &options, &top) < 0) {
		fprintf(stderr, "test %d: %s\n", number, fixd_error(f));
		return false;
	}
	r->built = fixd_view_built(top);
	h = fixd_view_root(top);
	w = (struct wordnet *)h->wordnet;
	ok = check_counts(w) && check_dog(w, h) && check_graph(w);
	if (ok && (options.flags & FIXD_COW))
		ok = check_damage(top, w, r);
	if (!fixd_view_current(top)) {
		fprintf(stderr, "test %d: the view is out of date\n", number);
		ok = false;
	}
	/* The views stay attached until the parent has counted the memory. */
	return ok;
}

static void run_child(int number, int results, int go)
{
	struct result r = { 0 };
	bool ok = run_test(number, &r);
	char c;

	if (!ok || write(results, &r, sizeof r) != sizeof r || read(go, &c, 1) < 0)
		_exit(1);
	_exit(0);
}

static void print_results(const struct result *all, int n, long pss)
{
	double reset[PROCESSES];
	int resets = 0, built = 0;
	int64_t pages = 0;

	for (int i = 0; i < n; i++) {
		built += all[i].built;
		if (all[i].pages)
			reset[resets++] = all[i].reset_s * 1e6;
		pages += all[i].pages;
	}
	printf("processes=%d\nwaited=%d\nresets=%d\npages=%" PRId64 "\n", n, built, resets, pages);
	printf("reset_us=%.0f\npss_kib=%ld\n", measure_quantile(reset, (size_t)resets, 0.5), pss);
}

/* What one attach takes when the machine is not busy with 50 processes. */
static bool time_attach(void)
{
	double took[200];
	struct fixd *f;

	if (fixd_open(&f, NULL) < 0) {
		fprintf(stderr, "%s\n", fixd_error(NULL));
		return false;
	}
	for (size_t i = 0; i < sizeof took / sizeof *took; i++) {
		double start = measure_now();
		struct fixd_view *v;

		if (fixd_attach(f, "hypernyms", NULL, &v) < 0) {
			fprintf(stderr, "%s\n", fixd_error(f));
			return false;
		}
		took[i] = (measure_now() - start) * 1e6;
		fixd_detach(v);
	}
	fixd_close(f);
	printf("attach_us=%.0f\n", measure_quantile(took, sizeof took / sizeof *took, 0.5));
	return true;
}

int main(void)
{
	struct result all[PROCESSES];
	int results[2], go[2], n = 0, failed = 0;
	pid_t pids[PROCESSES];
	long pss = 0;

	if (!time_attach() || fflush(stdout) != 0 || pipe(results) < 0 || pipe(go) < 0)
		return 2;
	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			return 2;
		if (pids[i] == 0) {
			close(go[1]);
			run_child(i, results[1], go[0]);
		}
	}
	close(results[1]);
	while (n < PROCESSES && read(results[0], &all[n], sizeof *all) == sizeof *all)
		n++;
	for (int i = 0; i < PROCESSES; i++)
		pss += measure_pss_kib(pids[i]) > 0 ? measure_pss_kib(pids[i]) : 0;
	close(go[1]);
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		failed += waitpid(pids[i], &status, 0) < 0 || status != 0;
	}
	print_results(all, n, pss);
	printf("passed=%d\nfailed=%d\n", PROCESSES - failed, failed);
	return failed ? 1 : 0;
}
