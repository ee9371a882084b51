/* SPDX-License-Identifier: MIT */
#include "client/object.h"

#include <stdint.h>
#include <stdio.h>

#include "client/lines.h"
#include "client/mapping.h"
#include "image/objects.h"

static size_t length_of(int printed)
{
	return printed > 0 ? (size_t)printed : 0;
}

static size_t put_offset(const char *name, uint64_t offset, char *text, size_t room)
{
	return length_of(offset ? snprintf(text, room, "%s + 0x%llx", name, (unsigned long long)offset) : snprintf(text, room, "%s", name));
}

size_t object_name(const struct mapping *m, const void *address, char *text, size_t room)
{
	uint64_t offset = (uint64_t)((const char *)address - m->base), beyond;
	char variable[256];
	size_t n;

	if (room)
		*text = '\0';
	if (!m->has_objects)
		return 0;
	n = objects_name(m->writable ? m->cow.pristine : m->base, m->size, offset, text, room);
	if (n)
		return n;
	if (lines_variable((uintptr_t)m->base, (uintptr_t)address, variable, sizeof variable, &beyond))
		return put_offset(variable, beyond, text, room);
	return offset >= m->root ? put_offset("root", offset - m->root, text, room) : 0;
}
