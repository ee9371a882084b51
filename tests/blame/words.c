/* SPDX-License-Identifier: MIT */
/* The plugin that describes its objects, and (`plain`) one that does not. */
#include "words.h"

#include <fixd-builder.h>

#define WORDS 100

static struct corpus *make(struct fixd_builder *b)
{
	struct corpus *c = fixd_alloc(b, sizeof *c);

	c->words = fixd_alloc(b, WORDS * sizeof *c->words);
	c->n = WORDS;
	for (int i = 0; i + 1 < WORDS; i++)
		c->words[i].next = &c->words[i + 1];
	fixd_set_root(b, c);
	return c;
}

int fixd_build(struct fixd_builder *b)
{
	struct corpus *c = make(b);

	fixd_describe(b, c->words, "some bytes", 1);
	fixd_describe(b, c, "struct corpus", 1);
	fixd_describe(b, c->words, "struct word", c->n);
	return 0;
}

int plain(struct fixd_builder *b);

int plain(struct fixd_builder *b)
{
	return make(b) ? 0 : -1;
}

int beside(struct fixd_builder *b);

int beside(struct fixd_builder *b)
{
	static int elsewhere[4];

	fixd_describe(b, elsewhere, "int", 4);
	return make(b) ? 0 : -1;
}
