/* SPDX-License-Identifier: MIT */
/*
 * libdw (elfutils), looked up where it is needed: no program needs it to be built or to start. Whoever includes this has said before in
 * LIBDW(X) what it calls: X(name, result, arguments) for each function, which is dw.name then. The structs and numbers are those of
 * elfutils/libdwfl.h, libdw.h and dwarf.h.
 */
#pragma once

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

struct die {
	void *address, *unit, *abbreviation;
	long padding;
};
struct attribute {
	unsigned code, form;
	unsigned char *value;
	void *unit;
};
struct callbacks {
	void *find_elf, *find_debuginfo, *section_address;
	char **debuginfo_path;
};

enum tag {
	TAG_ARRAY = 0x01,
	TAG_CLASS = 0x02,
	TAG_MEMBER = 0x0d,
	TAG_STRUCTURE = 0x13,
	TAG_TYPEDEF = 0x16,
	TAG_UNION = 0x17,
	TAG_INHERITANCE = 0x1c,
	TAG_INLINED = 0x1d,
	TAG_SUBPROGRAM = 0x2e,
	TAG_NAMESPACE = 0x39,
};

enum {
	AT_DATA_MEMBER_LOCATION = 0x38,
	AT_DECLARATION = 0x3c,
	AT_EXTERNAL = 0x3f,
	AT_TYPE = 0x49,
	AT_CALL_FILE = 0x58,
	AT_CALL_LINE = 0x59,
	AT_DATA_BIT_OFFSET = 0x6b,
};

#define LIBDW_FIELD(name, type, arguments) type(*name) arguments;
static struct {
	LIBDW(LIBDW_FIELD)
} dw;

/* With DEBUGINFOD_URLS libdw's own way asks servers, and waits for them: then only what is installed is looked at. */
static inline void *libdw_find_debuginfo(void *standard, void *local)
{
	const char *urls = getenv("DEBUGINFOD_URLS");

	return urls && *urls ? local : standard;
}

/* False: it is not there, or one that is too old. */
static bool libdw_load(void)
{
	static enum { UNKNOWN, THERE, MISSING } state;
	void *library;

	if (state != UNKNOWN)
		return state == THERE;
	state = MISSING;
	library = dlopen("libdw.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return false;
#define LIBDW_TAKE(name, type, arguments)                   \
	dw.name = (type(*) arguments)dlsym(library, #name); \
	if (!dw.name)                                       \
		return false;
	LIBDW(LIBDW_TAKE)
	state = THERE;
	return true;
}
