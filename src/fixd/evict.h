/* SPDX-License-Identifier: MIT */
/* Giving up images that nobody holds, least recently used first, when something runs short. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct user;

/* Makes room for `more` bytes. -EDQUOT if that cannot be done. The caller counts them in daemon::memory_used. */
int evict_for_memory(struct daemon *d, uint64_t more);

/* Keeps descriptors for clients: images and keepers have at most daemon::descriptors_max, unless they are held. */
void evict_for_descriptors(struct daemon *d);

/* One image that clients of the user built. False if all of them are held. */
bool evict_of_user(struct user *u, const char *cause);
