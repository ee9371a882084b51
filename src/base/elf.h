/* SPDX-License-Identifier: MIT */
/* What ELF files say of themselves: programs and libraries, read from their descriptors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The name by which a program asks for a shared runtime of the address sanitizer ("libasan.so.8"), which must come first in
 * LD_PRELOAD. False: it does not, or is no 64-bit ELF file of this machine. Allocates nothing, keeps errno.
 */
bool elf_sanitizer(int fd, char *out, size_t room);

/* The same, when the first `have` bytes of the file have been read already. */
bool elf_sanitizer_of(int fd, const void *head, size_t have, char *out, size_t room);

/*
 * Is it a program of another kind than this one, whose loader takes a preloaded library of this kind for an error: of another machine
 * or word size, or linked with musl? False: it is not, or is no ELF file.
 */
bool elf_is_foreign(int fd, const void *head, size_t have);
/* A program that no loader loads, and no library with it: it is linked statically. */
bool elf_is_static(int fd, const void *head, size_t have);
/*
 * One of Go, which makes its system calls itself, also where it is linked dynamically. It has a note of its build ID ("Go", type 4;
 * cmd/link/internal/ld/elf.go of Go).
 */
bool elf_is_go(int fd, const void *head, size_t have);

#define ELF_STRING_MAX 4096 /* longer ones are passed over */

/*
 * Tells `each` of the directories in which a program or library wants its libraries searched ("$ORIGIN/../lib:/opt/lib", DT_RUNPATH or
 * DT_RPATH), if any, and then of each library that it needs, until it returns false. Nothing of what is no 64-bit ELF file.
 */
enum elf_string { ELF_SEARCH, ELF_NEEDED };
void elf_strings(int fd, bool (*each)(void *arg, enum elf_string what, const char *string), void *arg);
/* Does it say where its libraries are? */
bool elf_has_search(int fd, const void *head, size_t have);
