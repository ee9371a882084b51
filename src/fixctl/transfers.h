/* SPDX-License-Identifier: MIT */
/* Images on their way between the daemon and its remote, as a status has them. */
#pragma once

#include <jansson.h>
#include <stdint.h>

struct fixd;

/* "downloading words, 3.0 MiB of 12 MiB"; to be freed. */
char *transfer_words(const json_t *transfer);
/* Those of a status; NULL: there is no remote. */
const json_t *transfers_of(const json_t *status);
/* Of the fixture of that title, from the remote; to be freed, NULL: it does not come from there. */
char *transfers_of_build(const json_t *status, const char *title);
/* Before something is built that may go to the remote: what happens from here on is transfers_wait()'s. 0, or an exit code. */
int transfers_begin(struct fixd *f, uint64_t *from);
/*
 * Waits until nothing is on its way to the remote. 0, or an exit code: what did not arrive is said on standard error.
 */
int transfers_wait(struct fixd *f, uint64_t from);
