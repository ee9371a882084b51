/* SPDX-License-Identifier: MIT */
/* What somebody may have meant who has mistyped a word. */
#pragma once

/* The most similar of the words in `list` (separated by commas), to be freed, or NULL: none is similar. */
char *nearest(const char *word, const char *list);
/* For the end of a sentence: " (did you mean 'x'?)", or nothing; to be freed. */
char *nearest_question(const char *word, const char *list);
