/* SPDX-License-Identifier: MIT */
/*
 * An image as the daemon holds it: a sealed memfd and what is known about it. References are held by the instance whose
 * current image it is, by leases, by images whose objects point into it, that are torn down before it or whose processes run in its tree,
 * and by replies and builds on their way; with the last one it is torn down, and its memory, its address range and its tree go.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"
#include "image/digest.h"
#include "wire/messages.h"

struct model;
struct instance;
struct keeper;
struct session;
struct user;

/* One image holds another one, that it was made with the help of. */
struct teardown_link {
	struct link in_dependents; /* image::teardown_dependents of the other one */
	struct image *holder;
};

struct image {
	struct model *model;
	unsigned refs;
	struct instance *instance; /* NULL once the instance is gone */
	struct link leases;	   /* lease::in_image */
	size_t n_leases;
	size_t n_uses; /* leases, and those of images that need it */
	size_t n_pins; /* by instances that are built with it */
	uint64_t serial;
	int fd;
	enum wire_image_kind kind;
	uint64_t address, size, root;
	uint64_t bytes; /* counted against memory-max */
	char *tree;	/* directory, or NULL */
	struct digest digest;
	struct digest inputs; /* of the watched files, with watch-by = content */
	struct digest section;
	uint32_t generation;
	uint32_t board_slot;
	uint64_t board_value;
	size_t n_depends;		      /* as in the definition it was built by */
	struct digest *dep_digests;	      /* the digests of its dependencies */
	struct image **depends;		      /* they themselves (references), when its objects may point into them; or NULL */
	struct image **teardown_deps;	      /* references: of its dependencies those that must be torn down after it */
	struct teardown_link *teardown_links; /* as many */
	size_t n_teardown_deps;
	struct image **trees; /* references: those of its dependencies, which its process may use as long as it runs */
	size_t n_trees;
	struct link teardown_dependents;
	struct link in_unused;	       /* model::unused or user::unused, if it is current and nobody uses it */
	size_t n_teardown_dependents;  /* by so many */
	struct keeper *kept_by;	       /* what tears it down, or NULL */
	const char *died;	       /* why that has ended by itself; it is its own */
	bool ending;		       /* it is being torn down */
	struct link in_detached;       /* model::detached */
	bool dirty;		       /* it was held since its last reset */
	int64_t created, created_real; /* built, or last rebuilt with the same digest */
	int64_t used, used_real;       /* last attach or detach */
	int64_t checked;	       /* its check command last said yes */
	int64_t build_ns;
	int64_t cpu_ns;	   /* of its build; 0: not known */
	uint64_t peak_rss; /* bytes */
	uint64_t attaches;
	int parts_fd;	    /* what its key on the remote is made from, or -1 */
	bool at_home_only;  /* its objects must not be relocated */
	struct link copies; /* of them, for other places */
	char *title;	    /* of its instance */
	uint64_t saved;	    /* number of the state that it was last written into */
	int scope;
	char *teardown_error; /* NULL: there was none */

	/* Of what a client built. */
	struct user *user;	 /* a reference */
	struct session *session; /* that gets it as an orphan; NULL at the daemon's end */
	struct link in_session;	 /* session::images */
	char *run;		 /* in which it was built, or NULL */
	char **dep_titles;	 /* the titles of what `dep_digests` is of */
	int note_fd;		 /* for whoever tears it down, or -1 */
	uint64_t note_size;
	bool of_run;			    /* it is of no use after that run */
	bool teardown;			    /* somebody must be told to tear it down */
	bool torn_down;			    /* and was */
	uint64_t preferred_teardown_client; /* the client that can do it best; 0: all are equal */
};

/* Who is told what becomes of images: given at the start of the daemon, by what has instances and sessions. */
struct image_owner {
	void (*unheld)(struct image *im);   /* a lease has ended, or an image that needed it */
	void (*gone)(struct image *im);	    /* it is going: no reference is left */
	void (*orphaned)(struct image *im); /* the same, and whoever can tear it down has not been told: its note is to be taken */
};

/*
 * Copies of its objects that are right at other places; `places`: a digest of those. A descriptor, which stays the image's, or -1. One more:
 * takes the descriptor; its bytes were counted, and are given back with the image.
 */
#define IMAGE_COPIES_MAX 8
int image_find_copy(const struct image *im, struct digest places);
void image_add_copy(struct image *im, struct digest places, int fd, uint64_t bytes);
size_t image_count_copies(const struct image *im);

/* With a reference, and nothing else set but what is given. */
struct image *image_new(struct model *m, int fd, enum wire_image_kind kind, uint64_t size);

/* What it takes of the memory, and of whose limits (NULL: of nobody's). Once. */
void image_charge(struct image *im, struct user *u, uint64_t bytes);

/* It takes more, or less, by now. */
void image_recount(struct image *im, uint64_t bytes);

struct image *image_ref(struct image *im);
struct image *image_unref(struct image *im);

/*
 * Is `dep` what its dependency `k` was? Objects need the very images they point into; bytes only need what they were made from to have
 * stayed the same.
 */
bool image_built_with(const struct image *im, size_t k, const struct image *dep);
/* What an image is compared by that was made from this one: what must be torn down is another one each time it is built. */
struct digest image_identity(const struct image *im);
/* Must the next daemon know who holds it? Otherwise memory is all that matters, and that is the holder's own. */
bool image_holders_matter(const struct image *im);
/* What keeps it has ended by itself, or what keeps one that it was made with. */
bool image_has_died(const struct image *im);
/* Is torn down from now on, and will be until nothing keeps it any more. */
void image_begin_ending(struct image *im);
void image_detach(struct image *im);

/* It was made from them: of those that must be torn down it holds each, which stays as long as what was made with its help. */
void image_hold_teardown_deps(struct image *im, struct image *const *depends, size_t n);
/* The same for all of `teardown_deps`, whose references it takes, and the array. */
void image_take_teardown_deps(struct image *im, struct image **teardown_deps, size_t n);
/* The same for their trees: they stay for what runs on with their paths, and are not torn down because of it, nor it because of them. */
void image_hold_trees(struct image *im, struct image *const *depends, size_t n);
/* It may have become one that is current and nobody uses, or stopped to be one. */
void image_update_unused(struct image *im);
/* It was given out. */
void image_used(struct image *im);

/* `im` and everything its objects may point into, each once, `im` first. Returns the number, at most `max`, or -E2BIG. */
int image_closure(struct image *im, struct image **out, size_t max);

/* What a client has on an image. */
struct lease {
	struct link in_client; /* client::leases */
	struct link in_image;  /* image::leases */
	struct image *image;
	const struct link *of; /* the list that it is in */
	pid_t pid;
	bool released; /* held, but not to be used again */
	uid_t uid;
	int64_t since;
	uint64_t event; /* number of its attach, or 0 */
	uint64_t pages; /* what its holder says when it lets go: see wire_detach */
	uint32_t resets, dirty;
};

struct lease *lease_new(struct image *im, struct link *leases, pid_t pid);
void lease_free(struct lease *l);
/* Its client has done with the image, however many leases of it are in the list. */
void lease_release(struct link *leases, const struct image *im);
/* The newest lease of the image with that serial, or NULL. */
struct lease *lease_find(const struct link *leases, uint64_t serial);
