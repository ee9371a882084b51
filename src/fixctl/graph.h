/* SPDX-License-Identifier: MIT */
/* The dependency graph as a picture, of the daemon's list and status. */
#pragma once

#include <jansson.h>
#include <stdio.h>

/* An <svg> element. */
void graph_write_svg(FILE *out, const json_t *list, const json_t *status);
