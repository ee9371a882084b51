/* SPDX-License-Identifier: MIT */
/*
 * libfixd-preload.so: what the processes of a run have in front of libc. libfixd-preload(8) is the manual.
 *
 * Promises: a process that is in no run is not changed. A path that no fixture covers costs no lock, no allocation and no system
 * call, but for the first thing that is noted and the first relative path. What cannot be shown as it should be is refused with
 * EROFS and a line on standard error. errno is what the real call would have left. Any thread; in a signal handler what libc allows
 * there; between vfork() and exec nothing of the parent is changed.
 */
#pragma once

#include "free/real.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/stat.h>

#include "wire/run_table.h"

/*
 * A call of libc is always said to be one: REAL(f) is libc's, kernel() the system call, and SEEN(f) the wrapper of this shim, which sees what
 * the program sees. tests/shim-calls.sh holds the code to it.
 */
#define SEEN(f) f

/* What is ours is known to be near: no detour over the table of addresses. */
#pragma GCC visibility push(hidden)

/* The table of the run, or NULL: then every wrapper is the real function. */
extern struct run_table *run;

/* That of a process that has changed its root directory, where the paths of the table mean something else; otherwise NULL. */
extern struct run_table *run_left;

/* By the descriptor that was inherited, which RUN_TABLE_VARIABLE says; NULL: it is none. */
struct run_table *table_find(const char *variable);

/* The run ends for this process, and for what it starts. */
void run_leave(void);

static inline struct run_entry *run_entries(void)
{
	return (struct run_entry *)(void *)((char *)run + run->entries);
}

static inline const char *run_string(uint32_t offset)
{
	return (const char *)run + offset;
}

static inline bool entry_is_private(const struct run_entry *e)
{
	return __atomic_load_n(&e->state, __ATOMIC_ACQUIRE) == RUN_PRIVATE;
}

/* Is this one of the descriptors that the whole run shares? They look closed to the program. */
extern int fd_first_of_ours; /* the lowest of them, so that others are told apart at a glance */
bool fd_is_in_table(int fd);

static inline bool fd_is_ours(int fd)
{
	return run && fd >= fd_first_of_ours && fd_is_in_table(fd);
}

/* Is this a child between vfork() and exec? What it does must not change what its parent knows. */
bool is_guest(void);

/* Where a path is (resolve.c). */

enum reach {
	REACH_OUTSIDE,	/* no fixture is there or below */
	REACH_ANCESTOR, /* a directory that some fixture is below */
	REACH_INSIDE,	/* in a fixture */
};

/* In a process of a run, before anything else. */
void path_table_begin(void);
void lock_begin(void);
void environment_begin(void);

/* Behind those: users, groups and hosts come from files that are fixtures. */
void nss_begin(void);

/* Without a system call, unless the path is relative to something that is not known yet. */
enum reach resolve_reach(int dirfd, const char *path);

static inline bool is_inside(int dirfd, const char *path)
{
	return resolve_reach(dirfd, path) == REACH_INSIDE;
}

enum use {
	USE_READ,
	USE_CHANGE,  /* what is there, or what is to be there */
	USE_REPLACE, /* with something new, for certain: of a file that is there the bytes are not needed */
	USE_REMOVE,  /* its name goes away, or gets another meaning */
	USE_ALL,     /* with everything below */
};

#define USE_WHAT 15
#define USE_NOFOLLOW 16 /* with one of them: the last component may be a link */
#define USE_LAST 32	/* the name itself is meant, even with a slash behind it */
#define USE_RAW 64	/* who asks calls pass_marker() himself, if there is a link in the end */

struct resolved {
	struct run_entry *entry;
	bool image;    /* the bytes are those of entry->fd, and there is no path to them */
	bool relative; /* the path was one from the working directory */
	char visible[PATH_MAX];
	char path[PATH_MAX]; /* for the real functions, absolute; of an image unset */
};

/*
 * Finds out, and makes the fixture private first if it is to be changed. 1: found. 0: no fixture is there, the real function
 * gets what the program gave. -1: errno says why not.
 */
int resolve_path(struct resolved *p, int dirfd, const char *path, unsigned use);
/* The same of what is to be executed: neither an image can be, nor what lies where the kernel executes nothing, but a copy can. */
int resolve_program(struct resolved *p, const char *path);
bool resolve_is_noexec(const struct resolved *p);

/* To what does not follow links a marker (copyup.c) is what it stands for. */
void pass_marker(struct resolved *p);

/* Links outside of fixtures that lead into them (links.c). `path` of has(): normal. */
static inline bool links_are_there(void)
{
	return run && __builtin_expect(__atomic_load_n(&run->has_links, __ATOMIC_ACQUIRE), 0);
}

bool links_has(const char *path);
void links_seek(void); /* those that lie beside fixtures and in the working directory, once in a run */
void links_made(const char *target, int dirfd, const char *path);
void links_moved(int from_fd, const char *from, int to_fd, const char *to);

/* What programs see of the numbers of files that were copied up (inodes.c). */
void inodes_note(uint64_t copy, uint64_t original);
uint64_t inodes_original(uint64_t inode);

static inline bool inodes_are_there(void)
{
	return run && __builtin_expect(__atomic_load_n(&run->has_inodes, __ATOMIC_ACQUIRE), 0);
}

static inline uint64_t inode_of(uint64_t device, uint64_t inode)
{
	return inodes_are_there() && device == run->tree_device ? inodes_original(inode) : inode;
}

/* The path that a program should see for one that the kernel gave, in place. False: that is the same, or it does not fit. */
bool resolve_visible(char *path, size_t room);

/* A name in a tree has got another meaning: paths that processes have kept are not those of their directories any more. */
static inline void cwd_cache_renamed(void)
{
	__atomic_fetch_add(&run->renamed, 1, __ATOMIC_RELEASE);
}

/*
 * Where a path is in a run there are directories and links before it, which cost more than all else: who asked relative to the working
 * directory is answered so, if that is where the kernel has it.
 */
const char *cwd_cache_below(const char *real);

static inline const char *short_path(const struct resolved *p)
{
	return p->relative ? cwd_cache_below(p->path) : p->path;
}

/* The working directory has changed, or may have. */
void cwd_cache_moved(void);
/* The visible one, asked of the kernel; PATH_MAX bytes. NULL: there is none. */
char *cwd_cache_visible(char *out);

/* What is known of a descriptor (fd_cache.c), so that openat() need not ask what its directory is: 0, or 1 + enum reach. */
#define FD_CACHE_FDS 65536
extern _Atomic(void *) fd_cache_fds;  /* so many bytes; NULL: nothing is known yet */
extern _Atomic unsigned fd_cache_end; /* of the descriptors from here on nothing is known */
extern _Atomic unsigned vfork_guests; /* children between vfork() and exec, in this memory */
void vfork_begins(void);	      /* one more */

/* Of which descriptors the visible path is kept (fd_cache.c): by the low bits of their numbers, 1 + number. */
#define FD_CACHE_PATHS 16
extern int fd_cache_paths[FD_CACHE_PATHS];

/* For a new highest one, and while there are guests. */
void fd_cache_note_slowly(int fd, unsigned char what) __attribute__((cold));

static inline void fd_cache_note(int fd, unsigned char what)
{
	if (__builtin_expect(fd_cache_paths[(unsigned)fd % FD_CACHE_PATHS] == fd + 1, 0))
		fd_cache_paths[(unsigned)fd % FD_CACHE_PATHS] = 0;
	if (likely((unsigned)fd < atomic_load_explicit(&fd_cache_end, memory_order_acquire) &&
		   !atomic_load_explicit(&vfork_guests, memory_order_relaxed)))
		__atomic_store_n((unsigned char *)atomic_load_explicit(&fd_cache_fds, memory_order_relaxed) + fd, what, __ATOMIC_RELAXED);
	else
		fd_cache_note_slowly(fd, what);
}

static inline void fd_cache_opened(int fd, enum reach reach)
{
	fd_cache_note(fd, (unsigned char)(1 + reach));
}

static inline void fd_cache_closed(int fd)
{
	if ((unsigned)fd < atomic_load_explicit(&fd_cache_end, memory_order_acquire))
		fd_cache_note(fd, 0);
}

void fd_cache_closed_range(unsigned first, unsigned last);
/*
 * The tree has become private: the working directory follows, and the directories that a process of one thread has open, but for
 * those that are being listed. The others are known by the name they had.
 */
void fd_cache_follow(struct run_entry *e);

/* Each name, with the path, of a file in the shared tree that has several (hardlinks.c), until one is not 0: that, or -1 and errno. */
typedef int (*hardlinks_fn)(void *arg, const char *name);
int hardlinks_each(const struct run_entry *e, uint64_t inode, hardlinks_fn each, void *arg);

/* Does the path lead into a tree that the kernel shows? */
bool resolve_is_mounted(int dirfd, const char *path);

/* True, with a sentence and errno: a fixture is shown below, and would not be seen there. */
bool refuse_ancestor(int dirfd, const char *path, const char *what);

/*
 * The entry that the descriptor is of, or NULL. *shared: it is of the image or the tree itself, which nobody may change, not of
 * the run's own copy.
 */
struct run_entry *fd_cache_entry_of(int fd, char *visible, size_t room, bool *shared);

/* Making a fixture private (copyup.c). */

/* What is visible there can be changed, or made, below e->own afterwards. 0, or -1 and errno. */
int copyup_make(struct run_entry *e, const char *visible, unsigned what);
/* Does this path of the run's own tree only stand for something in the shared one? That is *target, of PATH_MAX bytes. */
bool copyup_marker(const struct run_entry *e, const char *path, char *target);
/* The same for the text of a link, in place; PATH_MAX bytes. */
/* The bytes of a file to another one that is empty; holes stay holes, where they can be asked for. -1 and errno. */
int copyup_bytes(int from, int to, off_t size);
bool copyup_expand(const struct run_entry *e, char *text);
/* Opens the image, by its own descriptor or by that of the keeper where a program has closed it. -1 and errno. */
int image_open(const struct run_entry *e, int flags);

/* "fixd: NAME: ..." on standard error, in one write. */
void shim_say(const struct run_entry *e, const char *path, const char *what);
/* Refuses: says so, sets errno to EROFS, returns -1. */
int shim_refuse(const struct run_entry *e, const char *path, const char *call);

/*
 * resolve_path() for what must be there (ENOENT) or must not be there (EEXIST): nothing is made private in vain. `how`:
 * USE_NOFOLLOW, USE_LAST or 0, for place_to_change() with USE_REMOVE or USE_ALL if it is not USE_CHANGE.
 */
int place_to_change(struct resolved *p, int dirfd, const char *path, unsigned how);
int place_to_make(struct resolved *p, int dirfd, const char *path);

/* Of the path without slashes behind it. */
size_t place_length(const char *path);
/* Such names cannot be given or taken: the kernel refuses to. */
bool place_ends_in_dots(const char *path);
/* A directory that a fixture is shown in is not empty, whatever the disk says: true, and errno says so. */
bool dirops_has_fixtures(int dirfd, const char *path);

/* Of wrappers that use a path in one call. */
/* The real function, for what is shown with the path of the place. */
#define WITH_PLACE(find, dirfd, path, call_real, call_place)                   \
	do {                                                                   \
		struct resolved p;                                             \
		int r_ = is_inside(dirfd, path) ? find : 0;                    \
		return likely(r_ == 0) ? call_real : r_ < 0 ? -1 : call_place; \
	} while (0)

#define TO_CHANGE(dirfd, path) place_to_change(&p, dirfd, path, 0)
#define TO_CHANGE_LINK(dirfd, path) place_to_change(&p, dirfd, path, USE_NOFOLLOW)

/* The path from where a child of these actions is when it uses it (actions.c), PATH_MAX bytes. False: as it is. */
bool actions_move(const posix_spawn_file_actions_t *actions, const char *path, char *out);

/* Does a program that is started with the environment as it is find the run (exec.c)? */
bool environment_is_complete(void);

/* The lock of the shim's lists (lock.c); nothing of the shim that takes it is called while it is held. */
void lists_take(void);
void lists_leave(void);

/* The descriptor becomes one of the run's own copy, before it is changed: 0, or -1 and errno. `call` NULL: nobody is told if not. */
int fd_make_own(int fd, const char *call);

/* pivot_root() of a run: -1, and errno. */
int refuse_pivot_root(const char *root);

/* What stat() says of an image (stat.c). True if `st` was one. */
bool stat_correct(struct stat *st);
int stat_place(struct resolved *p, struct stat *st, bool follow);
/* As access() (rights.c): may this process, by its effective ids or its real ones? 0, or -1 and errno. */
int rights_allow(const struct stat *st, int mode, bool effective);

#pragma GCC visibility pop
