/* SPDX-License-Identifier: MIT */
/* Telling a service manager how we are: sd_notify(3), spoken directly. Does nothing without NOTIFY_SOCKET. */
#pragma once

/* From now on it waits for a manager that does not read 0.1 s, once, and not five. */
void notify_be_brief(void);
void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* What was configured is read again, until READY=1. */
void notify_reloading(void);
/* Returns when the manager has done what it was told before; at the latest after five seconds. */
void notify_barrier(void);
/* With a descriptor, which stays the caller's. */
void notify_send_fd(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
