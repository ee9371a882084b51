/* SPDX-License-Identifier: MIT */
#include "image/place.h"

#include <stdint.h>
#include <sys/mman.h>

void *place_find(size_t size)
{
	size_t whole = (size + 4095) / 4096 * 4096;
	char *p = mmap(NULL, whole + PLACE_ALIGN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *start;

	if (p == MAP_FAILED)
		return NULL;
	start = (char *)(((uintptr_t)p + PLACE_ALIGN - 1) / PLACE_ALIGN * PLACE_ALIGN);
	if (start > p)
		munmap(p, (size_t)(start - p));
	munmap(start + whole, (size_t)(p + PLACE_ALIGN - start));
	return start;
}
