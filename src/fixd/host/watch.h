/* SPDX-License-Identifier: MIT */
/*
 * Watched files: has any input changed since it was looked at?
 *
 * The truth is stat(): a file has changed when its mtime (ns), size, inode or device differs, when it vanished or appeared.
 * inotify only says when to look again, for every directory on the way to a file (also through symbolic links), the file
 * itself, and the directories in which a glob could match. An event is queued before the edit's system call returns, so after
 * watcher_drain() every edit that was complete has been heard of. Where it is not known that every
 * change is told (overlays, network file systems, no more watches) the files are looked at every time.
 *
 * A write can leave mtime and size as they were, when it falls into the clock tick of the look or somebody sets the mtime back, and
 * what was moved away and comes back, or is made anew, may look as it did: a file or directory of which such a thing was heard has changed,
 * whatever stat() says. A directory with nothing in it that was seen, and a link that leads where it did, have not.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct record;
struct text;
struct viewer;
struct watcher;
struct watchset;

struct watcher *watcher_new(struct loop *loop);
struct watcher *watcher_free(struct watcher *w);

/* Hears everything that has happened until now: before a new set, so that it does not hear of what was before it. */
void watcher_catch_up(struct watcher *w);

/* If something was mounted or unmounted, everything is to be looked at. */
void watcher_look_at_mounts(struct watcher *w);
/* From a deferred call: hears everything that had happened when the loop's epoch began. Calls the `hint` of the sets concerned. */
void watcher_drain(struct watcher *w);

/*
 * Watches files, directories (with everything below) and globs, all absolute, of two lists, and remembers how they are now.
 * The first look is watchset_look()'s.
 * `hint` is called from the loop when they may have changed. No more than `most` names are looked through. All is seen with the
 * rights of `viewer` (NULL: the daemon's), which is taken.
 */
struct watchset *watchset_new(struct watcher *w, char *const *files, char *const *patterns, size_t most, struct viewer *viewer,
			      void (*hint)(void *arg), void *arg);
#define WATCH_NAMES_MAX 100000
/* Of a look that may be taken up again (ns). */
#define LOOK_SLICE (200 * INT64_C(1000))
struct watchset *watchset_free(struct watchset *s);

/*
 * What it has seen, for another process; there the first look of the new set of the same names (`files`, `patterns`)
 * is compared with that.
 */
void watchset_save(const struct watchset *s, struct text *out);
void watchset_restore(struct watchset *s, const struct record *saved);
/* With whose rights it was seen, to be freed; NULL: the daemon's. */
struct viewer *watchset_saved_viewer(const struct record *saved);

/* NULL, or a sentence (to be freed) why it is not to be relied on: too many names to look through, or what cannot be read. */
char *watchset_wrong(const struct watchset *s);

/*
 * Looks, until that time (clock.h), for what has changed; where each change is told only at what was told. False: it is not over, and
 * is to be called again. For somebody who asked at `asked`: a look that began later will do. A new set is looked at for the first time.
 */
bool watchset_look(struct watchset *s, int64_t asked, int64_t until);
/* The same, for one slice from now on. */
bool watchset_look_briefly(struct watchset *s, int64_t asked);
/* What the last look has found. */
char *watchset_known_change(const struct watchset *s);
/*
 * Both, for somebody who asked at `asked`, however long it takes. NULL: nothing has changed. Otherwise what did, in a sentence to be
 * freed; asking again gives the same answer.
 */
char *watchset_changed(struct watchset *s, int64_t asked);

/* All paths it saw; NULL-terminated, to be freed with list_free(). */
char **watchset_files(const struct watchset *s);
/* The first of them, at most so many, in the same way. *of: how many it looks at. */
char **watchset_first_files(const struct watchset *s, size_t most, size_t *of);
