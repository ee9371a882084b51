/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static struct {
	const char *program;
	enum log_level level;
	bool priorities;
} log_state = { "fixd", LOG_LEVEL_INFO, false };

void log_init(const char *program, bool priorities)
{
	log_state.program = program;
	log_state.priorities = priorities;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.level;
}

void log_write(enum log_level level, int err, const char *fmt, ...)
{
	static const int priority[] = { 3, 4, 6, 7 };
	int saved = errno;
	char line[4096];
	int n = 0;
	va_list ap;

	if (!log_enabled(level))
		return;
	if (log_state.priorities)
		n = snprintf(line, sizeof line, "<%d>", priority[level]);
	else
		n = snprintf(line, sizeof line, "%s: ", log_state.program);
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof line - (size_t)n, fmt, ap);
	va_end(ap);
	if (err && n < (int)sizeof line)
		n += snprintf(line + n, sizeof line - (size_t)n, ": %s", strerror(-err));
	if (n > (int)sizeof line - 2)
		n = (int)sizeof line - 2;
	line[n++] = '\n';
	fwrite(line, 1, (size_t)n, stderr);
	fflush(stderr);
	errno = saved;
}
