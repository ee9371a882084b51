/* SPDX-License-Identifier: MIT */
/* Which sets hear of what: an inotify watch for each inode, and its subscriptions. */
#pragma once

#include "fixd/host/survey.h"
#include "fixd/host/watching.h"

/* NULL: nobody is. */
struct wd *subscriptions_of(struct watcher *w, int number);
/* `name`: what is of interest in that directory; NULL: everything. Where that cannot be watched the set is polled. NULL: nothing new. */
struct sub *subscribe(struct watchset *s, const char *path, const char *name, enum name_kind kind, uint32_t mask);
/* To every directory that is passed on the way to `path`, links followed as the kernel does; `depth` links have been. */
void subscribe_way(struct watchset *s, const char *path, int depth);
/* Does the file system tell of every change? */
bool changes_are_told(const char *path);

struct hearing *hearing_new(struct watchset *s);
/* Its set hears nothing by it from now on; both are taken, and go in slices. NULL: there is none. */
void hearing_leave(struct watcher *w, struct hearing *h, struct snapshot *seen);
/* Of what has left: until that time. True: nothing is left. */
bool subscriptions_bury_until(struct watcher *w, int64_t until);
/* For watcher::burying. */
void subscriptions_bury(void *watcher);
