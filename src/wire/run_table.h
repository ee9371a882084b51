/* SPDX-License-Identifier: MIT */
/*
 * The path table of a run: what `fixctl run` tells the shim in every process of the run, and what those processes tell each
 * other. It is a file in the run's scratch directory that all of them have mapped, and inherit as a descriptor; everything but
 * the states, and what is known of programs, is written before the first of them starts. Offsets are from the start of the table;
 * strings end with NUL; all paths are absolute, without links and normal (path.h). Processes of one build of fixd only: the layout
 * is no promise.
 */
#pragma once

#include <stdint.h>

#define RUN_TABLE_MAGIC "fixd-run"
/* In the environment: "DESCRIPTOR:PATH" of the table. */
#define RUN_TABLE_VARIABLE "FIXD_SHIM"
#define RUN_TABLE_MAX (64u << 20)
/* In the scratch directory: a link to itself, for paths with too many of them. */
#define RUN_TABLE_LOOP "loop"

enum run_entry_kind {
	RUN_FILE, /* the bytes of an image: read through its descriptor */
	RUN_TREE, /* a directory on a tmpfs */
};

enum run_entry_state {
	RUN_PRISTINE, /* as the image has it */
	RUN_PRIVATE,  /* somebody has changed it: what counts is at `own`, if there is anything */
};

struct run_entry {
	uint32_t kind;
	uint32_t state; /* atomic; changed by whoever holds the lock file, never back */
	uint32_t links; /* atomic; of RUN_TREE: there are symbolic links in it */
	uint32_t name;	/* of the fixture */
	uint32_t path;	/* where it is shown */
	uint32_t tree;	/* of RUN_TREE: where it is */
	uint32_t own;	/* the run's own copy, in the scratch directory */
	int32_t fd;	/* of RUN_FILE: the image, in every process of the run */
	uint32_t mode;	/* of RUN_FILE: what stat() says */
	uint32_t uid, gid;
	uint32_t mtime_ns;
	uint32_t owner;	 /* of RUN_TREE: who owns it at `tree`; is shown as uid */
	uint32_t marker; /* of RUN_TREE: the name of a link to it beside `own`, by which what was not copied is linked */
	int64_t mtime;
	uint64_t size, inode, blocks; /* of RUN_FILE */
};

/* A directory and another name of it. */
struct run_alias {
	uint32_t from, to;
};

/* A file that was copied up, and what it was copied from. */
struct run_inode {
	uint64_t copy, original;
};

#define RUN_INODES 65536

enum run_table_flags {
	RUN_TREES_MOUNTED = 1 << 0, /* by the kernel: the table has files only */
	RUN_TREES_NOEXEC = 1 << 1,  /* where they lie no program can be started, as the kernel was told */
};

#define RUN_PLAIN 256

/* Links outside of fixtures that lead into them: so many, with paths of so many bytes in all, may be noted. */
#define RUN_LINKS 8192
#define RUN_LINKS_TEXT (1u << 20)

struct run_table {
	char magic[8];
	uint32_t size;
	uint32_t flags;
	uint64_t device;		    /* of all images */
	uint64_t region_start, region_size; /* addresses of images */
	uint64_t scratch_device, table_inode, lock_inode;
	int32_t fd, lock_fd;		 /* of the table and of the run's lock, in every process of the run */
	uint32_t keeper;		 /* a process that has the images open, at the same descriptors */
	uint32_t scratch;		 /* directory */
	uint32_t lock;			 /* file, locked while a state is changed */
	uint32_t shim;			 /* file: what LD_PRELOAD must have */
	uint32_t variables, n_variables; /* NAME=value, one after the other: every process has them */
	uint32_t n_entries, n_aliases, n_mounts;
	uint32_t entries, aliases, mounts; /* the last are offsets of paths */
	uint32_t links;	       /* RUN_LINKS offsets of paths, 0 for none; atomic, and what follows them up to the end is for the paths */
	uint32_t links_end;    /* atomic; where the next path goes */
	uint32_t has_links;    /* atomic; there are any */
	uint32_t links_sought; /* atomic; somebody has looked for those that were there before the run */
	uint32_t inodes;       /* RUN_INODES of them, by the number of the copy; atomic, 0 for none */
	uint32_t has_inodes;   /* atomic; there are any */
	uint64_t tree_device;  /* of trees and their copies, 0 if they are on different ones */
	uint32_t told_static;  /* atomic; somebody has been told that a program does not see the fixtures */
	uint32_t renamed;      /* atomic; how often a name in a tree has got another meaning */
	uint64_t plain[RUN_PLAIN]; /* atomic; programs that somebody has looked into, and that want no runtime before the shim */
};
