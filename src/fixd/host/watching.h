/* SPDX-License-Identifier: MIT */
/* What stands behind watch.h: who watches, for which sets, and which of its inotify watches hear of what. */
#pragma once

#include "fixd/host/watch.h"

#include <sys/inotify.h>

#include "base/link.h"
#include "base/vector.h"
#include "fixd/host/snapshot.h"
#include "fixd/loop/loop.h"

#define MASK_SELF (IN_DELETE_SELF | IN_MOVE_SELF)
#define MASK_NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define MASK_CONTENT (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB)
#define MASK_TREE (MASK_NAMES | MASK_SELF | MASK_CONTENT)

struct watcher {
	struct loop *loop;
	struct deferred burying, telling;
	struct link graves;    /* what sets have left */
	struct link told;      /* watchset::in_told: whose hint is to be passed on */
	struct source *source; /* NULL: no inotify */
	int fd;
	struct mount_table *mounts; /* or NULL */
	void *wds;		    /* tree of struct wd */
	struct link sets;
	bool warned;
	uint64_t epoch; /* of the loop, at the last drain */
	uint64_t heard; /* how often it was read what has happened */
};

/* One inotify watch: an inode, for everybody who wants to hear of it. */
struct wd {
	int wd;
	struct watcher *watcher;
	struct link subs;
};

/* All that a look has subscribed a set to; it outlives the set until it has been taken apart. */
struct hearing {
	struct link subs;
	struct watchset *set; /* NULL: it has left */
};

struct sub {
	struct link in_wd;  /* wd::subs */
	struct link in_set; /* hearing::subs */
	struct wd *wd;
	struct hearing *hearing;
	char *path;
	char *name;	    /* of interest in that directory; NULL: everything */
	bool pattern;	    /* it is one */
	bool last;	    /* of the whole, so that its names are what is watched */
	bool behind;	    /* a link: what is there has another name than what is seen */
	bool there;	    /* the name of interest, when it was subscribed to */
	char *target;	    /* the link that it was; or NULL */
	bool away;	    /* it was, since */
	uint64_t made_anew; /* watcher::heard when it was, the last time */
	uint32_t mask;	    /* what of it: the inode may be watched for others, too */
};

/* What goes in slices. */
struct grave {
	struct link link;
	struct hearing *hearing; /* or NULL */
	struct snapshot seen;
};

/* Paths that something happened to, before all of them are looked at. */
#define TOUCHED_MAX 256

struct watchset {
	struct link link;	/* watcher::sets */
	struct link in_told;	/* watcher::told */
	struct viewer *viewer;	/* with whose rights; NULL: the daemon's */
	struct vector touched;	/* paths that something happened to */
	struct vector modified; /* and that were written to during the first look */
	bool look_at_all;	/* or it is not known to which */
	struct watcher *watcher;
	char **patterns;
	struct snapshot seen;
	struct snapshot before;	    /* what another process had seen, until the first look is over */
	bool restored;		    /* there is such */
	struct survey *survey;	    /* the look at hand, or NULL */
	bool complete;		    /* the first one is over */
	int64_t look_began, looked; /* the look at hand; and the last one, when it began */
	struct hearing *hearing;
	struct hearing *old_hearing; /* that the look at hand replaces, or NULL */
	size_t most;		     /* names */
	char *wrong;		     /* why the first look is not to be relied on */
	bool polled;		     /* it is not told of every change */
	bool deaf;		     /* nor can it subscribe to more */
	bool linked;		     /* a link is, or was, on the way to what it sees */
	bool hinted;		     /* something happened since the last look */
	bool renamed;		     /* and names came or went: there may be more to watch */
	bool again;		     /* what is subscribed may be so already */
	char *moved;		     /* a directory or link that was, or NULL: what is in it may look as it did */
	char *changed;
	void (*hint)(void *arg);
	void *arg;
};

/* Something else may be, or have been, at that path: if it is of what the set sees, that has changed. */
void watchset_note(struct watchset *s, const char *path);
/* All that the path leads to may have been something else. */
void watchset_note_move(struct watchset *s, const char *path);
