/* SPDX-License-Identifier: MIT */
/* What the daemon tells about itself, as records (wire/record.h). */
#pragma once

#include "base/text.h"

struct conn;
struct instance;

/* Instances and definitions that the connection may see, and whose name, or name[param], matches the glob. */
void report_status(const struct conn *c, const char *pattern, struct text *out);
void report_list(const struct conn *c, const char *pattern, struct text *out);

/* The instance of that name, or name[param], that was built last; NULL. */
const struct instance *report_find(const struct conn *c, const char *name);
