/* SPDX-License-Identifier: MIT */
/*
 * From addresses of this process to functions and lines of its source, as a debugger tells them: by libdw (elfutils), where that is
 * installed; otherwise functions only, by the dynamic symbols. Slow for the first address of a
 * library, tens of ms: what is read of it stays. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line {
	const char *function; /* demangled; NULL: not known */
	const char *file;     /* as the compiler was told; NULL: not known */
	int line;
	const char *module; /* the program or library */
	uint64_t offset;    /* in it */
};

/* What is told of each function that an address is in: more than one where the compiler put one into another, the innermost first. */
typedef void (*lines_fn)(void *arg, const struct line *line);

void lines_of(const void *address, lines_fn fn, void *arg);

/* The variable of this program, not of the system's libraries or ours, that points to `address` or nearest before it, not before `lowest`; *offset
 * is how far. False: there is none, or no libdw. */
bool lines_variable(uintptr_t lowest, uintptr_t address, char *name, size_t size, uint64_t *offset);
/* In a forked child, before anything else here. */
void lines_survive_fork(void);
