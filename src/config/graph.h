/* SPDX-License-Identifier: MIT */
/* The dependencies between fixtures: links names to definitions; no cycle, nothing missing, nothing narrower. */
#pragma once

#include "base/text.h"
#include "config/config.h"

int graph_check(struct config *c, struct text *problems);
