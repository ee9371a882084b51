/* SPDX-License-Identifier: MIT */
/* Text in XML and HTML. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/* As character data, or inside of "": also what is no such thing (control characters are left out). */
void markup_text(FILE *out, const char *s);
/* In HTML, of paths and names: a line may end behind each part. */
void markup_breakable(FILE *out, const char *s);
/* At most the last `max` bytes of it: the end of a long name says more than its beginning. */
void markup_end_of(FILE *out, const char *s, size_t max);
