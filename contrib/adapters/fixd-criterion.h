/* SPDX-License-Identifier: MIT */
/* The name that fixd/criterion.h had before it had a directory, for suites that have it. */
#pragma once

#include "fixd/criterion.h"
