/* SPDX-License-Identifier: MIT */
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
