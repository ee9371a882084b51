/* SPDX-License-Identifier: MIT */
/* Telling a service manager how we are: sd_notify(3), spoken directly. Does nothing without NOTIFY_SOCKET. */
#pragma once

void notify_send(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
