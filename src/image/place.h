/* SPDX-License-Identifier: MIT */
/* A place for a mapping that may lie anywhere, but at a multiple of 2 MiB: huge pages need that. */
#pragma once

#include <stddef.h>

#define PLACE_ALIGN ((size_t)2 << 20)

/* Reserves `size` bytes (nothing may be done with them); map over them with MAP_FIXED. NULL and errno. */
void *place_find(size_t size);
