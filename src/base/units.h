/* SPDX-License-Identifier: MIT */
/*
 * Numbers with units, strictly: the whole string must be one number in range. Sizes take K, M, G (powers of 1024),
 * durations ms, s, m, h (no unit: seconds). Returns 0, -EINVAL (not such a number) or -ERANGE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

int parse_u64(const char *s, int base, uint64_t max, uint64_t *out);
int parse_size(const char *s, uint64_t *out);
int parse_duration(const char *s, int64_t *out_ns);

/* As the above take them: "64M", "90s", "10m". Returns `buf`. */
char *write_size(char *buf, size_t n, uint64_t bytes);
char *write_duration(char *buf, size_t n, int64_t ns);

/* For people: "64.0 MiB", "1.2 ms" or "1 h 30 min", "15 minutes". Returns `buf`. */
char *format_size(char *buf, size_t n, uint64_t bytes);
char *format_duration(char *buf, size_t n, int64_t ns);
char *format_age(char *buf, size_t n, int64_t ns);
