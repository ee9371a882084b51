/* SPDX-License-Identifier: MIT */
/* A section [fixture NAME]: read, completed and checked as far as it can be alone. */
#pragma once

#include <stddef.h>

#include "config/loading.h"

/* With the defaults of [policy]. */
struct fixture *fixture_new(const char *name, int line, const struct policy *defaults);
/* The section becomes one of the configuration's fixtures. */
void fixture_load(struct loading *l, size_t section, const char *name);
/* The same image is meant. */
bool depend_same(const struct depend *a, const struct depend *b);
/* What the entries say, in any order, and where their paths start; documentation is not part of what is built. Sorts them. */
struct digest fixture_digest(const char *root, const struct raw_entry **entries, size_t n);
