/* SPDX-License-Identifier: MIT */
/*
 * libfixd: the C interface of a test process.
 *
 *	struct fixd *f;
 *	struct fixd_view *v;
 *
 *	if (fixd_open(&f, NULL) < 0 || fixd_attach(f, "corpus", NULL, &v) < 0)
 *		die(fixd_error(f));
 *	use(fixd_view_root(v));
 *	fixd_detach(v);
 *	fixd_close(f);
 *
 * Functions return 0 (or a count) or a negative errno; fixd_error() has the sentence. Sizes are bytes.
 *
 * Thread rule: one struct fixd may be used by one thread at a time; views may be used by all threads at once, but for
 * fixd_view_reset(), fixd_view_changes() and fixd_detach(), for which nobody else may be using that view (copy-on-write views
 * of the same objects in one process are the same bytes: a reset of one resets them all). fixd_view_reset()
 * and fixd_detach() also use the connection the view came from, unless that was closed.
 *
 * fork(): a child has its parent's views, and what it writes to a copy-on-write view is its own. The connection stays the
 * parent's; a child that asks for something gets its own. Leases of the parent last until all its forked children that have
 * not called exec are gone, too.
 *
 * Environment: FIXD_SOCKET, where the daemon listens; FIXD_TIMEOUT, how long to wait for a build, in seconds or with ms, s, m or h
 * (default 60s); FIXD_DISABLE=1, ask no daemon: what this client can build is built here, for this process only, and every scope key
 * has an image of its own; FIXD_RESET_ON_FORK=1, a forked child has pristine copy-on-write views;
 * FIXD_BLAME=1, say on stderr (or at the end of the file FIXD_BLAME_FILE) who wrote what is changed when a view is reset or detached.
 */
#ifndef FIXD_H
#define FIXD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#pragma GCC visibility push(default)

#ifdef __cplusplus
extern "C" {
#endif

/* This header's, as major << 16 | minor << 8 | micro. */
#define FIXD_VERSION 0x000100

/* The library's, in the same form: that of its own header. Since: 0.1 */
unsigned fixd_version(void);

struct fixd;	   /* a connection to the daemon */
struct fixd_view;  /* one mapping of an image in this process */
struct fixd_build; /* an image that this client builds */

enum fixd_flags {
	FIXD_RO = 0,	      /* a write dies with SIGSEGV */
	FIXD_COW = 1 << 0,    /* copy-on-write: writes are this process's own, and fixd_view_reset() undoes them */
	FIXD_NOWAIT = 1 << 1, /* of fixd_attach(): do not wait; see there */
	/* With FIXD_COW: -EBUSY if another view of this process has any of the same objects, and so would share its writes; later ones fail so, too. */
	FIXD_ALONE = 1 << 2,
};

/* Time-outs, in ms. */
#define FIXD_TIMEOUT_DEFAULT 0 /* $FIXD_TIMEOUT, or 60 s */
#define FIXD_TIMEOUT_NONE (-1) /* for ever */

/*
 * Structs that begin with `size` grow at their end, by the rule of openat2(2): the caller sets it to sizeof of what it was compiled with.
 * A library that is newer takes what is missing for zero, which always is the default; one that is older takes what it does not know
 * if it is zero, and says -E2BIG otherwise. Unknown flags are -EINVAL everywhere.
 */

struct fixd_options {
	size_t size;	/* sizeof(struct fixd_options) */
	unsigned flags; /* enum fixd_flags */
	int timeout_ms; /* for a build, or FIXD_TIMEOUT_DEFAULT, FIXD_TIMEOUT_NONE */
	/* Where the test is, "pkg/mod.c::Suite::test"; NULL: nowhere. A fixture takes the part of its scope: all of it (function), without
	 * the last part (class), before "::" (module), its directory (package), nothing (session). */
	const char *scope_key;
	struct fixd_view *const *depends; /* for fixd_build_begin(): views of what it would be built from */
	size_t n_depends;		  /* at most 64 */
};

/* Bytes that a process has changed in a view. */
struct fixd_range {
	const void *start;
	size_t length;
};

/*
 * Connects to the daemon at `socket` (a path), or if it is NULL at $FIXD_SOCKET, $XDG_RUNTIME_DIR/fixd/socket (/tmp/fixd-UID/socket
 * where that is not set), /run/fixd/socket: the first of them that is set or there.
 * On failure *out is NULL and fixd_error(NULL) says why. With FIXD_DISABLE=1 it succeeds and asks no daemon.
 * -ENOENT, -ECONNREFUSED: no daemon. -EINVAL: FIXD_TIMEOUT is no duration. -EPROTONOSUPPORT: its version is another. -ETIMEDOUT: it does not answer.
 * The caller calls fixd_close(). Since: 0.1
 */
int fixd_open(struct fixd **out, const char *socket);

/* Ends the connection and all its leases. Views stay mapped and must still be detached. NULL is ignored. Since: 0.1 */
void fixd_close(struct fixd *f);

/*
 * The sentence for the last failure on `f` or, with NULL, of the calling thread's last fixd_open(). Never NULL; valid until the
 * next call. Since: 0.1
 */
const char *fixd_error(const struct fixd *f);

/*
 * What happens meanwhile that no call returns: `fn` gets a sentence without a newline, from the thread whose call it happens in, and must
 * not call this library. The library itself prints nothing. For the whole process; NULL: nobody is told. A call that is under way in
 * another thread may still use what was set before. Since: 0.1
 */
void fixd_set_log(void (*fn)(void *arg, const char *sentence), void *arg);

/*
 * The descriptor that is readable when the daemon has said something, for poll(2): after fixd_attach() with FIXD_NOWAIT. It is the
 * library's, and may be another one after any call. -1: there is none now. Since: 0.1
 */
int fixd_fd(const struct fixd *f);

/*
 * Names the test that runs from now on, for fixctl trace and report: what it attaches, and the pages of copy-on-write views that it
 * has changed when they are reset. At most 500 bytes of it are copied; NULL: none. The daemon hears of it with the next attach or
 * change, so a test that does neither costs nothing. Since: 0.1
 */
void fixd_set_test(struct fixd *f, const char *test);

/*
 * Attaches the fixture `name` or `name[param]`, which is built first if there is no fresh image of it. An edit of an input
 * that was complete before the call is always seen. One round trip.
 * -ENOENT: no such fixture. -ENOTCONN: it lives no longer than a run, and this connection is in none. -ECANCELED: FIXD_DISABLE is set. -ETIMEDOUT: not ready in time (the build goes on). -EBUSY: objects that are already mapped in
 * this process in the other mode. -EEXIST: something else lies where its objects must be. -EIO: the build failed; the sentence
 * ends with the builder's last words. -EINVAL, -E2BIG: the name, the options or the values of variables are wrong or too long.
 * -EMFILE, -ENOMEM: this process has no descriptor or memory left. -ECONNREFUSED, -ECONNRESET: the daemon was lost.
 * With FIXD_NOWAIT it only asks: -EAGAIN until the image is there; whenever fixd_fd() is readable, the same call again looks for the
 * answer. One such question is on its way at a time, -EBUSY: another one is. Any other call that asks the daemon may take its answer
 * and give it back: after one of those the same call comes before the next poll(2).
 * The caller calls fixd_detach(). Since: 0.1
 */
int fixd_attach(struct fixd *f, const char *name, const struct fixd_options *options, struct fixd_view **out);

/* Unmaps, and gives the lease back. Pointers into the view are dead. NULL is ignored. Since: 0.1 */
void fixd_detach(struct fixd_view *v);

/* The root object that the builder set; the first byte where it set none. Never NULL. Since: 0.1 */
void *fixd_view_root(const struct fixd_view *v);
/* The bytes of the image: of a file or output, all of it; of a directory, its manifest. Since: 0.1 */
const void *fixd_view_data(const struct fixd_view *v);
size_t fixd_view_size(const struct fixd_view *v);
/* Where the tree of a directory fixture is; NULL for other fixtures. Valid while the view is attached. Since: 0.1 */
const char *fixd_view_path(const struct fixd_view *v);
/* 1 for the first image of an instance, and so on. Since: 0.1 */
uint32_t fixd_view_generation(const struct fixd_view *v);
enum fixd_view_flags {
	FIXD_VIEW_BUILT = 1 << 0,  /* this attach had to wait for a build */
	FIXD_VIEW_REUSED = 1 << 1, /* the image was not built in the run that this client is a member of, but before, or by another one */
	FIXD_VIEW_COW = 1 << 2,	   /* it may be written to */
};

/* Of enum fixd_view_flags; bits that are not named there may be set by a later library. Since: 0.1 */
unsigned fixd_view_flags(const struct fixd_view *v);

/* The first two of them. Since: 0.1 */
bool fixd_view_built(const struct fixd_view *v);
bool fixd_view_reused(const struct fixd_view *v);

/*
 * Makes a copy-on-write view pristine, with what it points into in other images. Returns how many pages were put back (an
 * upper bound), 0 for a read-only view, or -errno with a sentence. Since: 0.1
 */
int64_t fixd_view_reset(struct fixd_view *v);

/*
 * The bytes that differ from the image, as maximal runs in order of address within each image; at most `n` of them are
 * written to `ranges`. Returns how many there are, or -errno with a sentence. Since: 0.1
 */
int64_t fixd_view_changes(struct fixd_view *v, struct fixd_range *ranges, size_t n);

/*
 * With FIXD_BLAME: who was the first to write to the page of `address` since the view was attached or reset, as lines that say where,
 * the first of them the write itself. At most `size` bytes are written to `text`, with a 0 at their end. Returns how long the lines are;
 * 0: nobody, or who is not watched. Then the library says nothing of the changes that are there now; with NULL for an address that is
 * all it does. Since: 0.1
 */
int64_t fixd_view_blame(struct fixd_view *v, const void *address, char *text, size_t size);

/*
 * What is at `address`, in the words of who builds it or tests with it: `struct word[12].next` where the plugin says what lies where
 * (fixd_builder_describe()); otherwise `words + 0x1f8` from a variable of this program that points there or before, where libdw is
 * installed, or `root + 0x1f8`. At most `size` bytes of it are written to `text`, with a 0 at their end. Returns how long it is; 0:
 * nothing is known but the address, or -EINVAL. One thread at a time. Since: 0.1
 */
int64_t fixd_view_object(struct fixd_view *v, const void *address, char *text, size_t size);

/*
 * Says, for fixctl report, that the test of fixd_set_test() has had this view, and if `line` is not NULL, that this line of its source has
 * changed what it is a view of; at most 500 bytes of it are copied. With FIXD_BLAME the library says so itself of copy-on-write views, when
 * they are reset or detached: this is for who knows more. As fixd_view_reset() it uses the connection, and it never waits. Since: 0.1
 */
void fixd_view_used(struct fixd_view *v, const char *line);

/*
 * What clients build.  A fixture that is registered with fixd_define(), or has `client = yes` in fixd.ini, is built by the first
 * client that asks for it with fixd_build_begin(); the others wait, and get the same image.  Each user has such images for
 * himself.  When the builder dies, one of those who wait becomes the builder.
 */

enum fixd_join_flags {
	FIXD_OBSERVER = 1 << 0, /* uses nothing of the run itself; looks after what others leave: fixd_claim_teardown() */
};

/*
 * The fixtures of this connection are those of the session of `root` (a directory) from now on; `run` (NULL: none) is the run
 * that it is a member of: any name that all processes of one test run share, of at most 100 bytes.
 * -EISCONN: it has joined before. -ENOENT, -ENOTDIR: no such directory. -EDQUOT: too many sessions. Since: 0.1
 */
int fixd_join(struct fixd *f, const char *root, const char *run, unsigned flags);

/*
 * Registers a fixture in the session that was joined: `settings` are "key=value", NULL-terminated, with the keys doc, category,
 * scope, env, huge-pages, version, reuse, max-age, age-from, watch, timeout, retry-after and memory-max of fixd.ini(5). Another
 * definition of that name is replaced; when version, scope, env or reuse differ its images are stale.
 * -EINVAL with a sentence; -ENOTCONN: nothing was joined. Since: 0.1
 */
int fixd_define(struct fixd *f, const char *name, const char *const *settings);

/*
 * Attaches the fixture, or makes the caller its builder: 0 and *view, or 1 and *build, for which the caller then calls
 * fixd_build_commit() or fixd_build_abort(). Errors are those of fixd_attach(); -EIO also when another client's build of it
 * failed. -EDEADLK: its builder waits for something that this client builds. Since: 0.1
 */
int fixd_build_begin(struct fixd *f, const char *name, const struct fixd_options *options, struct fixd_view **view,
		     struct fixd_build **build);

/*
 * The memory of the image, which now has at least `size` bytes; new bytes are zero. It stays where it is when it grows, and is
 * gone after commit or abort. NULL: more than is allowed, or no memory; fixd_error() says which. Since: 0.1
 */
void *fixd_build_memory(struct fixd_build *b, size_t size);

/* How an image is torn down. */
struct fixd_teardown {
	size_t size; /* sizeof(struct fixd_teardown) */
	/* For whoever tears it down; at most 1 MiB. With a note it is kept for fixd_claim_teardown() until somebody has. */
	const void *note;
	size_t note_size;
	unsigned flags; /* enum fixd_teardown_flags */
};

enum fixd_teardown_flags {
	FIXD_KEEPER = 1 << 0, /* this client does it itself if it is still there when nobody else needs the image */
};

/*
 * Publishes the first `size` bytes and attaches the image; frees `b`, whatever is returned. `teardown` may be NULL.
 * -EAGAIN: an input changed meanwhile, or the definition, or it took too long: begin again. -EINVAL, -EDQUOT: the note or the image is
 * too large. -EMFILE, -ENOMEM: no descriptor or memory left. -ETIMEDOUT: the daemon does not answer.
 * Since: 0.1
 */
int fixd_build_commit(struct fixd_build *b, size_t size, const struct fixd_teardown *teardown, struct fixd_view **out);

/*
 * The build failed: everybody who waits for it, or asks for it later in this run, is told `sentence`. With NULL the caller only
 * gives it up, and the next one who waits becomes the builder. Frees `b`. Since: 0.1
 */
int fixd_build_abort(struct fixd_build *b, const char *sentence);

/* This member of a run will attach nothing new: others need not wait for it. Since: 0.1 */
void fixd_run_done(struct fixd *f);

/*
 * This member of a run will not use the image of `v` again, which stays mapped until fixd_detach(). Exactly one member of the
 * run, the last that could use it, gets 1 and then tears it down; *note (to be freed) and *note_size are what the builder left
 * for that. All others get 0. With `timeout_ms`, or FIXD_TIMEOUT_NONE, it waits until nobody else could use the image, and with 0 it asks.
 * An image that later runs use, too (reuse=yes), has no last one: it is torn down when it is retired, by who claims that.
 * -ETIMEDOUT: others still could. -ENOTCONN: it is in no run. Since: 0.1
 */
int fixd_release(struct fixd_view *v, int timeout_ms, void **note, size_t *note_size);

/*
 * Takes over the teardown of an image of the session that is gone, or that no member of this run could use any more, and that
 * nobody was told to tear down: the newest whose instance matches `pattern` (a name or glob; NULL: any). 1, with *title, *note
 * (both to be freed) and *note_size; 0: there is none. Since: 0.1
 */
int fixd_claim_teardown(struct fixd *f, const char *pattern, char **title, void **note, size_t *note_size);

/*
 * Templates (fixd.ini(5), process =): a program prepares, stops at its checkpoint, and is forked there for everybody who asks.
 */

enum fixd_checkpoint_flags {
	FIXD_INHERIT_ATEXIT = 1 << 0, /* a fork runs exit handlers that were registered before the checkpoint, and destructors, too */
	FIXD_RETURN_AT_END = 1 << 1, /* when the template is to end, fixd_fork_here() returns FIXD_TEMPLATE_ENDS there, and does not exit */
};

struct fixd_checkpoint {
	size_t size;		   /* sizeof(struct fixd_checkpoint) */
	unsigned flags;		   /* enum fixd_checkpoint_flags */
	unsigned n_keep_fds;	   /* of keep_fds */
	const int *keep_fds;	   /* descriptors that all forks share on purpose: the audit says nothing of them */
	void (*before)(void *arg); /* each may be NULL: in the template, before each fork, which without these two is made ahead */
	void (*parent)(void *arg); /* in the template, after it, also when it failed */
	void (*child)(void *arg);  /* in the fork, which has what is its caller's by then; reopens what must be */
	pid_t (*fork)(void *arg);  /* instead of fork(2), with what that returns: of a run-time system that has its own */
	void *arg;
	const char *const *files; /* NULL-terminated, or NULL: what it has read besides its program and libraries */
};

enum fixd_fork_here {
	FIXD_NO_TEMPLATE = 0,	/* nobody asked for a template: go on */
	FIXD_FORKED = 1,	/* this is a fork, whose arguments are *argv */
	FIXD_TEMPLATE_ENDS = 2, /* with FIXD_RETURN_AT_END: tear down and exit */
};

/*
 * The checkpoint. In a process that the daemon has started for `process =`, it stops here, and returns in every fork, with *argc and
 * *argv (either may be NULL) those of the caller behind the program's own name, and with the caller's environment (and what this program
 * itself has set), directory, umask, limits, ignored signals and descriptors 0, 1 and 2. Elsewhere, and with FIXD_DISABLE=1, it returns at once.
 * What does not survive a fork is looked for first, and told on standard error; where the section does not allow it the process exits.
 * When the daemon ends the template, exit() is called there: exit handlers run once, in the template. A fork that exits has its standard
 * streams flushed and its coverage data (gcov, llvm) written. rand(3), random(3) and drand48(3) have another seed in every fork.
 * When its program, a library that it has loaded or one of `files` has changed, the template is stale, and the next fork is one of another.
 * From the main thread; fixd_error(NULL) has the sentence of a negative errno: the template cannot listen. `how` may be NULL. Since: 0.1
 */
int fixd_fork_here(int *argc, char ***argv, const struct fixd_checkpoint *how);

/* A fork of a template, of this process; one thread at a time. */
struct fixd_process;

enum fixd_fork_flags {
	FIXD_FORK_TERMINAL = 1 << 0, /* it has a session of its own, whose controlling terminal is its descriptor 0 */
};

struct fixd_fork_options {
	size_t size;		  /* sizeof(struct fixd_fork_options) */
	unsigned flags;		  /* enum fixd_fork_flags */
	int timeout_ms;		  /* for the template, as in struct fixd_options */
	const char *scope_key;	  /* as there */
	char *const *args;	  /* behind the program's name, NULL-terminated; NULL: none */
	char *const *environment; /* NAME=VALUE, NULL-terminated; NULL: that of this process */
	const char *directory;	  /* NULL: that of this process */
	const int *fds;		  /* three that become 0, 1 and 2, and stay the caller's; NULL: those of this process */
};

/*
 * A fork of the template `name` or `name[param]`, which is prepared first if there is no fresh one. The template is not torn down before
 * its forks have ended. -EPERM: it runs as another user. -EINVAL: it is no template. -EAGAIN, -ENOMEM: it cannot fork now, and could not for
 * the whole timeout. Others are those of fixd_attach(). The caller calls fixd_process_close(). Since: 0.1
 */
int fixd_fork(struct fixd *f, const char *name, const struct fixd_fork_options *options, struct fixd_process **out);

/* Its number, as the template sees it; and a descriptor of it (pidfd_open(2)), which is the library's. Since: 0.1 */
pid_t fixd_process_id(const struct fixd_process *p);
int fixd_process_pidfd(const struct fixd_process *p);
/* Readable when there is something for fixd_process_wait(), for poll(2). Since: 0.1 */
int fixd_process_fd(const struct fixd_process *p);

/*
 * Until it stops, goes on or ends: 0 and *status as of waitpid(2). -ETIMEDOUT after `timeout_ms` (0: at once; FIXD_TIMEOUT_NONE: never).
 * -EINTR: a signal came. -ECONNRESET: its template was lost, and it with that. After its end the same is told again. Since: 0.1
 */
int fixd_process_wait(struct fixd_process *p, int timeout_ms, int *status);

/* Sends a signal to it and its process group. 0, or -errno; -ESRCH: it has ended. Since: 0.1 */
int fixd_process_kill(struct fixd_process *p, int signal);

/* Kills it if it has not ended, and lets go of the template. NULL is ignored. Since: 0.1 */
void fixd_process_close(struct fixd_process *p);

#if defined(__GNUC_GNU_INLINE__) && !defined(__cplusplus)
#define FIXD_INLINE extern inline __attribute__((gnu_inline))
#else
#define FIXD_INLINE inline
#endif

/* The start of every view; for fixd_view_current() only, which is in programs that were compiled long ago: it stays as it is. */
struct fixd_view_head {
	const uint64_t *board;
	uint64_t value;
	uint64_t reserved[6];
};

/*
 * Is this still what an attach would give? One load from memory that the daemon writes, no system call: false as soon as the
 * daemon has noticed that an input changed. Since: 0.1
 */
FIXD_INLINE bool fixd_view_current(const struct fixd_view *v)
{
	const struct fixd_view_head *h = (const struct fixd_view_head *)(const void *)v;

	return __atomic_load_n(h->board, __ATOMIC_ACQUIRE) == h->value;
}

#ifdef __cplusplus
}
#endif

#pragma GCC visibility pop

#endif
