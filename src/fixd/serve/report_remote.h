/* SPDX-License-Identifier: MIT */
/* What a status says of the remote. */
#pragma once

struct server;
struct text;

/* An object in that of the daemon, or null where there is none. */
void report_remote(const struct server *server, struct text *out);
