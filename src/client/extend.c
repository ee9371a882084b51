/* SPDX-License-Identifier: MIT */
#include "client/extend.h"

#include <errno.h>
#include <string.h>

int struct_extend(void *to, size_t size, size_t least, const void *from)
{
	const unsigned char *bytes = from;
	size_t given;

	memcpy(&given, from, sizeof given);
	if (given < least)
		return -EINVAL;
	for (size_t k = size; k < given; k++) {
		if (bytes[k])
			return -E2BIG;
	}
	memset(to, 0, size);
	memcpy(to, from, given < size ? given : size);
	return 0;
}
