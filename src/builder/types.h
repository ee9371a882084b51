/* SPDX-License-Identifier: MIT */
/*
 * The types of described objects, with their fields as the debug info of the plugin has them: where libdw is installed, and the plugin
 * compiled with -g. Without either a type has its name and size only.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "image/objects.h"

struct types {
	struct objects_type *types;
	const void **dies; /* of each, where its debug info has come from; or NULL */
	struct objects_field *fields;
	struct text strings;
	size_t n, n_fields;
};

/* Of that name, as its author writes it (`struct word`, `shop::order`). Types have numbers from 0, in the order in which they come. */
void types_add(struct types *t, const char *name, uint64_t size);
/* The fields of all of them, and the types of those. */
void types_read(struct types *t, const char *plugin);
void types_deinit(struct types *t);
