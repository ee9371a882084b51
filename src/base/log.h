/* SPDX-License-Identifier: MIT */
/*
 * Lines on standard error. A line is written once, where the decision is made. `err` is 0, or a negative errno whose text
 * is added. errno is kept. Under a service manager (priorities on) a line starts with its <N> syslog priority.
 */
#pragma once

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_init(const char *program, bool priorities);
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(err, ...) log_write(LOG_LEVEL_ERROR, err, __VA_ARGS__)
#define log_warn(err, ...) log_write(LOG_LEVEL_WARN, err, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, 0, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, 0, __VA_ARGS__)
