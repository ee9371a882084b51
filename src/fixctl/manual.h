/* SPDX-License-Identifier: MIT */
/* The manual, opened where it tells of a command. */
#pragma once

#include <stdbool.h>

/* False: standard output is no terminal, or there is no manual here. */
bool manual_open(const char *command);
