/* SPDX-License-Identifier: MIT */
/*
 * The key of an image: the same on two machines exactly when what it is built from is the same there.
 *
 * It is made from a description, a file of strings that each end with a NUL: "=NAME", VALUE for what is a value, and "@NAME", PATH for a
 * file whose content counts, and its name, and not where it lies.
 */
#pragma once

#include "remote/hash.h"

/* 0, or -errno with a line on standard error. */
int key_of(int description, char key[HASH_HEX_SIZE]);
