/* SPDX-License-Identifier: MIT */
/*
 * Restart: the process becomes that of the program as it is installed now, with everything it has. Clients do not notice: their
 * connections, leases and requests go on, and so do services.
 *
 * Promises: what cannot be a successor (it is not there, does not like the configuration, does not know this state) is not tried,
 * and everything stays as it is. Builds that run are begun again.
 */
#pragma once

#include <stdint.h>

#include "base/text.h"

struct conn;
struct keep;
struct wire_header;

/* A client asks for it; it is answered by the new program, or told what is wrong. */
void restart_ask(struct keep *keep, struct conn *c, const struct wire_header *h);
/* A build has ended. */
void restart_continue(struct keep *keep);

/* In the new program. 0: there was something to go on with, or nothing; -errno, and it starts afresh. */
int restart_resume(struct keep *keep);
/* Tells who has asked. */
void restart_answer(struct keep *keep);
