/* SPDX-License-Identifier: MIT */
/*
 * What a service manager keeps for us over our end (systemd's file descriptor store, sd_notify(3), FileDescriptorStoreMax=): the
 * state, and the descriptors that it names. It is used when FDSTORE is in the environment, as newer managers set it and our units do.
 *
 * Promises: after a restart, an upgrade or a crash the next daemon goes on with all that was published; when we are told to end, with
 * the clients, too. If nobody comes, the manager closes all of it: then the keepers tear down. A crash may lose what was published in
 * the last moment, as writing a large state takes a fiftieth of the time at most, but nothing that somebody holds: that is there
 * before it is told.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct fdstore;
struct image;
struct keep;

/* NULL: there is none. */
struct fdstore *fdstore_new(struct keep *keep);
struct fdstore *fdstore_free(struct fdstore *s);

/* What a daemon before this one has left there. Like restart_resume(). */
int fdstore_resume(struct keep *keep);

/* model::changed: what another daemon would have to know. Does nothing without a store, nor does the next. */
void fdstore_save(void *keep);
/* model::on_hold. */
void fdstore_hold(void *keep, const struct image *im, pid_t pid, bool holds);
/* Nothing changes any more: the state is as it is. */
void fdstore_end(struct keep *keep);
/* The last word: with the clients. 0, and the process is to end without ending anything; or -errno. */
int fdstore_leave(struct keep *keep);
