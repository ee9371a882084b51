/* SPDX-License-Identifier: MIT */
/*
 * Sealed memory files: what every image is made of.
 *
 * A sealed memfd has mode 0444 and the seals SEAL, SHRINK, GROW and WRITE (and EXEC where the kernel knows it), so nobody,
 * not even its maker, can change a byte of it again. memfd_verify() is asked about every descriptor that came from another
 * process before anything is read from it or it is given to somebody else.
 * All functions return 0 (or a descriptor) or -errno.
 */
#pragma once

#include <stdint.h>
#include <stddef.h>

int memfd_new(const char *name);

/* No shared writable mapping of `fd` may be left: -EBUSY. */
int memfd_seal(int fd);

/* A sealed memfd with these bytes. */
int memfd_from_bytes(const char *name, const void *data, size_t size);

/* 0 and the size if `fd` is a memfd with all seals; -EINVAL if it is something else, -EPERM if seals are missing. */
int memfd_verify(int fd, uint64_t *size);
