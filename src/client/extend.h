/* SPDX-License-Identifier: MIT */
/* Structs of callers that were compiled with another version: those that begin with their size (fixd.h). */
#pragma once

#include <stddef.h>

/*
 * Copies *from, of which a size_t at its start says how long it is, to the `size` bytes of *to: what is missing is zero. `least`: the size of
 * the first version. 0; -EINVAL: it is shorter; -E2BIG: it has more than is known here, and that is not zero.
 */
int struct_extend(void *to, size_t size, size_t least, const void *from);
