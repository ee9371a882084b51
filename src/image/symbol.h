/* SPDX-License-Identifier: MIT */
/* What of a program or library an address of this process is in, and its name: for the people who have written it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct symbol {
	const char *object; /* the file that the linker has loaded, or NULL: it is in none */
	unsigned flags;	    /* PF_... of the segment that it is in, also of a part without bytes in its file, which no map names */
	bool thread;	    /* thread-local, of the calling thread */
	bool relocated;	    /* read-only since the linker is done with it: tables of functions, mostly */
	char *linked;	    /* its name as the linker has it, or NULL; also of what is static, if the file has not been stripped */
	char *name;	    /* and as its author wrote it */
};

void symbol_find(uintptr_t address, struct symbol *s);
void symbol_deinit(struct symbol *s);
