/* SPDX-License-Identifier: MIT */
/* Numbers that were measured several times. */
#pragma once

#include <jansson.h>
#include <stddef.h>

struct samples {
	double *all;
	size_t n;
};

void samples_add(struct samples *s, double v);
void samples_deinit(struct samples *s);
/* The nearest rank; null when there are none. Sorts them. */
json_t *samples_quantile(struct samples *s, double q);
/* median, min, max; or null. */
json_t *samples_json(struct samples *s);
