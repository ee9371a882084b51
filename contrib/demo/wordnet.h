/* SPDX-License-Identifier: MIT */
/*
 * WordNet 3.0 as a graph in memory: what the plugin builds and the suite queries. Every pointer leads to another object of
 * the same image, or of the image it depends on. The files are described in wndb(5WN).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum wn_pos { WN_NOUN, WN_VERB, WN_ADJ, WN_ADV, WN_POS_COUNT };

struct wn_synset;

struct wn_relation {
	const struct wn_synset *target;
	char type[3];		    /* the pointer symbol: "@" hypernym, "~" hyponym, "!" antonym ... */
	uint8_t from_word, to_word; /* 0: the whole synset */
};

struct wn_synset {
	uint32_t offset; /* in its data file */
	uint8_t pos;	 /* enum wn_pos */
	uint8_t n_words;
	uint16_t n_relations;
	const char **words;
	struct wn_relation *relations;
	const char *gloss;
};

struct wn_lemma {
	const char *text;
	uint8_t pos;
	uint32_t n_senses;
	const struct wn_synset **senses; /* the most frequent first */
};

/* Root of the fixture `wordnet`. */
struct wordnet {
	size_t n_synsets;
	struct wn_synset *synsets;		   /* by part of speech, then by offset */
	struct wn_synset *first[WN_POS_COUNT + 1]; /* of each part of speech, and the end */
	size_t n_lemmas;
	struct wn_lemma *lemmas; /* by text, then by part of speech */
};

struct wn_path {
	size_t length;
	const struct wn_synset *const *nodes; /* from the synset itself up to the root */
};

struct wn_paths {
	size_t n;
	struct wn_path *paths;
};

/* Root of the fixture `hypernyms`: all ways up, of every noun. */
struct wn_hypernyms {
	const struct wordnet *wordnet;
	size_t n_paths;
	struct wn_paths *nouns; /* by the index of the noun */
};
