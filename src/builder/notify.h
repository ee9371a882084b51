/* SPDX-License-Identifier: MIT */
/*
 * Readiness as sd_notify(3) tells it: a service sends READY=1 to the socket that $NOTIFY_SOCKET names.
 *
 * Promises: only what processes of this user send is heard, and of root's services those that have become another one; who else sends there
 * costs little time; what the service says of its STATUS stands in the log.
 */
#pragma once

#include <stdbool.h>

/* The socket, which has an abstract name (/proc/net/unix shows it to everybody), and the variable for what is started from now on. Or -errno. */
int notify_open(const char *token);
struct text;

enum notify_message { NOTIFY_READY = 1 << 0, NOTIFY_STOPPING = 1 << 1 };
/* Reads of what has come, which may not be all, almost without waiting: which of these messages. Adds each STATUS in it to `status`, as a line. */
unsigned notify_read(int fd, struct text *status);
