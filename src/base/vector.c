/* SPDX-License-Identifier: MIT */
#include "base/vector.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

void vector_deinit(struct vector *v)
{
	free(v->all);
	*v = (struct vector){ 0 };
}

void vector_insert(struct vector *v, size_t at, void *p)
{
	if (v->n == v->room) {
		v->room = v->room ? 2 * v->room : 8;
		v->all = xrealloc(v->all, v->room * sizeof(void *));
	}
	memmove(v->all + at + 1, v->all + at, (v->n - at) * sizeof(void *));
	v->all[at] = p;
	v->n++;
}

void vector_add(struct vector *v, void *p)
{
	vector_insert(v, v->n, p);
}

void vector_remove(struct vector *v, size_t at)
{
	v->n--;
	memmove(v->all + at, v->all + at + 1, (v->n - at) * sizeof(void *));
}

size_t vector_search(const struct vector *v, const void *key, int (*compare)(const void *key, const void *element), bool *found)
{
	size_t low = 0, high = v->n;

	*found = false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		int order = compare(key, v->all[mid]);

		*found |= order == 0;
		if (order <= 0)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}
