/* SPDX-License-Identifier: MIT */
/* What the library says, and which one it is. */
#include <stdarg.h>
#include <stdio.h>

#include "client/connection.h"
#include "fixd.h"

static void (*log_fn)(void *arg, const char *sentence);
static void *log_arg;

void fixd_set_log(void (*fn)(void *arg, const char *sentence), void *arg)
{
	__atomic_store_n(&log_fn, NULL, __ATOMIC_RELEASE);
	__atomic_store_n(&log_arg, arg, __ATOMIC_RELEASE);
	__atomic_store_n(&log_fn, fn, __ATOMIC_RELEASE);
}

void connection_log(const char *fmt, ...)
{
	void (*fn)(void *arg, const char *sentence);
	void *arg;
	char sentence[512];
	va_list ap;

	/* A pair: nobody has set another one meanwhile. */
	do {
		fn = __atomic_load_n(&log_fn, __ATOMIC_ACQUIRE);
		arg = __atomic_load_n(&log_arg, __ATOMIC_ACQUIRE);
	} while (fn != __atomic_load_n(&log_fn, __ATOMIC_ACQUIRE));
	if (!fn)
		return;
	va_start(ap, fmt);
	vsnprintf(sentence, sizeof sentence, fmt, ap);
	va_end(ap);
	fn(arg, sentence);
}

unsigned fixd_version(void)
{
	return FIXD_VERSION;
}
