/* SPDX-License-Identifier: MIT */
/* Where the images of a section come from: the one key that says it, and the files that are read for it. */
#pragma once

#include "config/loading.h"

#define SOURCE_NAMES "file, directory, command, plugin, tree, service, process, client"

/* Which source a key names, or SOURCE_NONE. */
int source_of(const char *key);
/* The entry becomes the source of the fixture, and what is read for it an input. */
void source_load(struct loading *l, struct fixture *f, const struct raw_entry *e);
