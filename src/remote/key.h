/* SPDX-License-Identifier: MIT */
/*
 * The key of an image: the same on two machines exactly when what it is built from is the same there.
 *
 * It is made from a description, a file of strings that each end with a NUL: "=NAME", VALUE for what is a value, and "@NAME", PATH for a
 * file whose content counts, and its name, and not where it lies. In the parts of a key a file is "#NAME", SHA-256: they are the same
 * wherever the key is, and say which of them differs where it is not.
 */
#pragma once

#include "base/text.h"
#include "remote/hash.h"

/* The parts of what is described. 0, or -errno with a line on standard error. */
int key_resolve(int description, struct text *parts);
/* From a file of parts; the same. */
int key_read(int fd, struct text *parts);
void key_of(const struct text *parts, char key[HASH_HEX_SIZE]);
/* The name of the first part that is not the same in both, or NULL. */
const char *key_difference(const struct text *a, const struct text *b);
