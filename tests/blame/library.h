/* SPDX-License-Identifier: MIT */
/* A library that means no harm. */
#pragma once

void library_normalize(unsigned char *bytes, int n);
