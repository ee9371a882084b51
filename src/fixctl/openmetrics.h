/* SPDX-License-Identifier: MIT */
/* `fixctl status --format=openmetrics`: the text format of OpenMetrics 1.0. */
#pragma once

#include <jansson.h>

void openmetrics_print(const json_t *report);
