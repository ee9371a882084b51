/* SPDX-License-Identifier: MIT */
/* What the daemon tells about itself, as records (wire/record.h); and cleanup, which reports what it did. */
#pragma once

#include <stdint.h>

#include "base/text.h"

struct conn;
struct instance;

/* Instances and definitions that the connection may see, and whose name, or name[param], matches the glob. */
void report_status(const struct conn *c, const char *pattern, struct text *out);
void report_list(const struct conn *c, const char *pattern, struct text *out);

/* Retires what matches one of `patterns` and all conditions in `flags` (enum wire_cleanup_flags). */
void report_cleanup(const struct conn *c, char *const *patterns, uint32_t flags, int64_t older_than, struct text *out);

/* The instance of that name, or name[param], that was built last; NULL. */
const struct instance *report_find(const struct conn *c, const char *name);
