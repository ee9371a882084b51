/* SPDX-License-Identifier: MIT */
#include "library.h"

static void scale(unsigned char *byte, int largest)
{
	*byte = (unsigned char)(*byte * 255 / largest + 1); /* writes: library_writes */
}

void library_normalize(unsigned char *bytes, int n)
{
	for (int i = 0; i < n; i++)
		scale(&bytes[i], 254);
}
