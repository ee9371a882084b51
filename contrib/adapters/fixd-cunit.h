/* SPDX-License-Identifier: MIT */
/* The name that fixd/cunit.h had before it had a directory, for suites that have it. */
#pragma once

#include "fixd/cunit.h"
