/* SPDX-License-Identifier: MIT */
/* The builders of the demo: `wordnet` parses data.* and index.*, `hypernyms` adds an index that points into its objects. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixd-builder.h"
#include "wordnet.h"

static const char *const pos_names[WN_POS_COUNT] = { "noun", "verb", "adj", "adv" };

int build_wordnet(struct fixd_builder *b);
int build_hypernyms(struct fixd_builder *b);

/* The directory is the working directory: `root` of the ini file. */
static FILE *open_file(struct fixd_builder *b, const char *kind, int pos)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof path, "%s.%s", kind, pos_names[pos]);
	f = fopen(path, "re");
	if (!f)
		fixd_builder_fail(b, "%s: %s", path, strerror(errno));
	return f;
}

/* Lines of the licence start with a blank. */
static char *next_entry(FILE *f, char **line, size_t *room)
{
	ssize_t n;

	while ((n = getline(line, room, f)) >= 0) {
		if ((*line)[0] == ' ')
			continue;
		while (n && strchr(" \n", (*line)[n - 1]))
			(*line)[--n] = '\0';
		return *line;
	}
	return NULL;
}

static int pos_of(char c)
{
	switch (c) {
	case 'n':
		return WN_NOUN;
	case 'v':
		return WN_VERB;
	case 'r':
		return WN_ADV;
	default:
		return WN_ADJ; /* 'a', and 's' for a satellite */
	}
}

static int count_synsets(struct fixd_builder *b, struct wordnet *w)
{
	char *line = NULL;
	size_t room = 0, counts[WN_POS_COUNT] = { 0 };
	struct wn_synset *at;

	for (int pos = 0; pos < WN_POS_COUNT; pos++) {
		FILE *f = open_file(b, "data", pos);

		if (!f) {
			free(line);
			return -1;
		}
		while (next_entry(f, &line, &room))
			counts[pos]++;
		fclose(f);
		w->n_synsets += counts[pos];
	}
	free(line);
	w->synsets = at = fixd_builder_alloc(b, w->n_synsets * sizeof *at);
	if (!at)
		return -1;
	for (int pos = 0; pos < WN_POS_COUNT; pos++) {
		w->first[pos] = at;
		at += counts[pos];
	}
	w->first[WN_POS_COUNT] = at;
	return 0;
}

static int by_offset(const void *key, const void *member)
{
	uint32_t x = *(const uint32_t *)key, y = ((const struct wn_synset *)member)->offset;

	return x < y ? -1 : x > y;
}

static struct wn_synset *find_synset(const struct wordnet *w, int pos, uint32_t offset)
{
	return bsearch(&offset, w->first[pos], (size_t)(w->first[pos + 1] - w->first[pos]), sizeof(struct wn_synset), by_offset);
}

/* offset file type w_cnt word lex_id ... p_cnt symbol offset pos source/target ... | gloss */
static int parse_words(struct fixd_builder *b, struct wn_synset *s, char **save)
{
	strtok_r(NULL, " ", save); /* lexicographer file */
	strtok_r(NULL, " ", save); /* type */
	s->n_words = (uint8_t)strtoul(strtok_r(NULL, " ", save), NULL, 16);
	s->words = fixd_builder_alloc(b, s->n_words * sizeof *s->words);
	for (int i = 0; s->words && i < s->n_words; i++) {
		s->words[i] = fixd_builder_strdup(b, strtok_r(NULL, " ", save));
		strtok_r(NULL, " ", save); /* lex_id */
	}
	return s->words ? 0 : -1;
}

static int parse_relations(struct fixd_builder *b, const struct wordnet *w, struct wn_synset *s, char **save)
{
	s->n_relations = (uint16_t)atoi(strtok_r(NULL, " ", save));
	s->relations = fixd_builder_alloc(b, s->n_relations * sizeof *s->relations);
	for (int i = 0; s->relations && i < s->n_relations; i++) {
		struct wn_relation *r = &s->relations[i];
		const char *symbol = strtok_r(NULL, " ", save), *offset = strtok_r(NULL, " ", save);
		const char *pos = strtok_r(NULL, " ", save), *words = strtok_r(NULL, " ", save);
		unsigned pair = words ? (unsigned)strtoul(words, NULL, 16) : 0;

		if (!words)
			return fixd_builder_fail(b, "synset %08u of %s: a pointer is cut off", (unsigned)s->offset, pos_names[s->pos]);
		memcpy(r->type, symbol, strnlen(symbol, sizeof r->type - 1));
		r->from_word = (uint8_t)(pair >> 8);
		r->to_word = (uint8_t)pair;
		r->target = find_synset(w, pos_of(*pos), (uint32_t)strtoul(offset, NULL, 10));
		if (!r->target)
			return fixd_builder_fail(b, "synset %08u of %s: no synset %s of %s", (unsigned)s->offset, pos_names[s->pos], offset,
						 pos);
	}
	return s->relations ? 0 : -1;
}

/* The offsets come first: relations lead forward, too. */
static int load_synsets(struct fixd_builder *b, struct wordnet *w, int pos, int pass)
{
	FILE *f = open_file(b, "data", pos);
	struct wn_synset *s = w->first[pos];
	char *line = NULL, *save;
	size_t room = 0;
	int r = f ? 0 : -1;

	for (; r == 0 && next_entry(f, &line, &room); s++) {
		char *gloss = strstr(line, " | ");

		s->offset = (uint32_t)strtoul(strtok_r(line, " ", &save), NULL, 10);
		s->pos = (uint8_t)pos;
		if (pass == 0)
			continue;
		if (!gloss) {
			r = fixd_builder_fail(b, "synset %08u of %s has no gloss", (unsigned)s->offset, pos_names[pos]);
			break;
		}
		s->gloss = fixd_builder_strdup(b, gloss + 3);
		r = s->gloss ? parse_words(b, s, &save) : -1;
		if (r == 0)
			r = parse_relations(b, w, s, &save);
	}
	free(line);
	if (f)
		fclose(f);
	return r;
}

/* lemma pos synset_cnt p_cnt symbol... sense_cnt tagsense_cnt offset... */
static int parse_lemma(struct fixd_builder *b, const struct wordnet *w, int pos, char *line, struct wn_lemma *l)
{
	char *save, *text = strtok_r(line, " ", &save);
	int pointers;

	strtok_r(NULL, " ", &save);
	l->pos = (uint8_t)pos;
	l->n_senses = (uint32_t)atoi(strtok_r(NULL, " ", &save));
	pointers = atoi(strtok_r(NULL, " ", &save));
	for (int i = 0; i < pointers + 2; i++)
		strtok_r(NULL, " ", &save);
	l->text = fixd_builder_strdup(b, text);
	l->senses = fixd_builder_alloc(b, l->n_senses * sizeof *l->senses);
	if (!l->text || !l->senses)
		return -1;
	for (uint32_t i = 0; i < l->n_senses; i++) {
		const char *offset = strtok_r(NULL, " ", &save);

		l->senses[i] = offset ? find_synset(w, pos, (uint32_t)strtoul(offset, NULL, 10)) : NULL;
		if (!l->senses[i])
			return fixd_builder_fail(b, "index.%s: '%s' has a sense that is not there", pos_names[pos], text);
	}
	return 0;
}

static int load_lemmas(struct fixd_builder *b, struct wordnet *w, int pos, size_t *room)
{
	FILE *f = open_file(b, "index", pos);
	char *line = NULL;
	size_t line_room = 0;
	int r = f ? 0 : -1;

	while (r == 0 && next_entry(f, &line, &line_room)) {
		if (w->n_lemmas == *room) {
			struct wn_lemma *more = fixd_builder_realloc(b, w->lemmas, (*room = *room ? *room * 2 : 65536) * sizeof *more);

			if (!more) {
				r = -1;
				break;
			}
			w->lemmas = more;
		}
		r = parse_lemma(b, w, pos, line, &w->lemmas[w->n_lemmas++]);
	}
	free(line);
	if (f)
		fclose(f);
	return r;
}

static int by_text(const void *a, const void *b)
{
	const struct wn_lemma *x = a, *y = b;
	int order = strcmp(x->text, y->text);

	return order ? order : x->pos - y->pos;
}

int build_wordnet(struct fixd_builder *b)
{
	struct wordnet *w = fixd_builder_alloc(b, sizeof *w);
	size_t room = 0;
	int r = w ? count_synsets(b, w) : -1;

	for (int pass = 0; pass < 2; pass++) {
		for (int pos = 0; r == 0 && pos < WN_POS_COUNT; pos++)
			r = load_synsets(b, w, pos, pass);
	}
	for (int pos = 0; r == 0 && pos < WN_POS_COUNT; pos++)
		r = load_lemmas(b, w, pos, &room);
	if (r < 0)
		return r;
	qsort(w->lemmas, w->n_lemmas, sizeof *w->lemmas, by_text);
	fprintf(stderr, "%zu synsets, %zu lemmas\n", w->n_synsets, w->n_lemmas);
	fixd_builder_set_root(b, w);
	/* For who is told that a test has changed it. */
	fixd_builder_describe(b, w, "struct wordnet", 1);
	fixd_builder_describe(b, w->synsets, "struct wn_synset", w->n_synsets);
	fixd_builder_describe(b, w->lemmas, "struct wn_lemma", w->n_lemmas);
	return 0;
}

#define DEPTH_MAX 64
#define PATHS_MAX 256

struct climb {
	struct fixd_builder *b;
	const struct wn_synset *nodes[DEPTH_MAX];
	struct wn_path found[PATHS_MAX];
	size_t n;
};

static int keep_path(struct climb *c, size_t length)
{
	const struct wn_synset **nodes = fixd_builder_alloc(c->b, length * sizeof *nodes);

	if (!nodes)
		return -1;
	if (c->n == PATHS_MAX)
		return fixd_builder_fail(c->b, "%s has too many hypernym paths", c->nodes[0]->words[0]);
	memcpy(nodes, c->nodes, length * sizeof *nodes);
	c->found[c->n++] = (struct wn_path){ length, nodes };
	return 0;
}

static int climb(struct climb *c, const struct wn_synset *s, size_t depth)
{
	int up = 0;

	if (depth == DEPTH_MAX)
		return fixd_builder_fail(c->b, "%s is too deep, or hypernyms run in a circle", c->nodes[0]->words[0]);
	c->nodes[depth++] = s;
	for (int i = 0; i < s->n_relations; i++) {
		/* "@", and "@i" for an instance */
		if (s->relations[i].type[0] != '@')
			continue;
		up++;
		if (climb(c, s->relations[i].target, depth) < 0)
			return -1;
	}
	return up ? 0 : keep_path(c, depth);
}

int build_hypernyms(struct fixd_builder *b)
{
	const struct wordnet *w = fixd_builder_dep(b, "wordnet", NULL);
	struct wn_hypernyms *h = w ? fixd_builder_alloc(b, sizeof *h) : NULL;
	size_t n = w ? (size_t)(w->first[WN_NOUN + 1] - w->first[WN_NOUN]) : 0;
	struct climb c = { .b = b };

	if (!w)
		return fixd_builder_fail(b, "it depends on 'wordnet'");
	if (!h || !(h->nouns = fixd_builder_alloc(b, n * sizeof *h->nouns)))
		return -1;
	h->wordnet = w;
	for (size_t i = 0; i < n; i++) {
		struct wn_paths *p = &h->nouns[i];

		c.n = 0;
		if (climb(&c, &w->first[WN_NOUN][i], 0) < 0)
			return -1;
		p->n = c.n;
		p->paths = fixd_builder_alloc(b, c.n * sizeof *p->paths);
		if (!p->paths)
			return -1;
		memcpy(p->paths, c.found, c.n * sizeof *p->paths);
		h->n_paths += c.n;
	}
	fprintf(stderr, "%zu paths\n", h->n_paths);
	fixd_builder_set_root(b, h);
	return 0;
}
