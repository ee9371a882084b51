/* SPDX-License-Identifier: MIT */
#include "fixctl/samples.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"

void samples_add(struct samples *s, double v)
{
	s->all = xrealloc(s->all, (s->n + 1) * sizeof *s->all);
	s->all[s->n++] = v;
}

void samples_deinit(struct samples *s)
{
	free(s->all);
	*s = (struct samples){ 0 };
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

json_t *samples_quantile(struct samples *s, double q)
{
	size_t rank = (size_t)ceil(q * (double)s->n);

	if (s->n == 0)
		return json_null();
	qsort(s->all, s->n, sizeof *s->all, by_value);
	return json_real(s->all[rank ? rank - 1 : 0]);
}

json_t *samples_json(struct samples *s)
{
	if (s->n == 0)
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "median", samples_quantile(s, 0.5), "min", samples_quantile(s, 0), "max",
			 samples_quantile(s, 1));
}
