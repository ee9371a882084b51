/* SPDX-License-Identifier: MIT */
/*
 * An instance: one fixture for one (param, scope key, environment), and its way through
 *
 *	absent -> building -> ready -> stale -> absent ...
 *	             `-> failed
 *
 * Promises: whoever asks is answered once, with a fresh image or with a sentence; at most one build of an instance runs; an
 * image is given out only if every input was, after the request came, still as it was before the build read it; a failure is
 * kept until an input, a dependency or the definition changes, the retry delay passes, or it is cleaned up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/link.h"
#include "base/log.h"
#include "base/text.h"
#include "fixd/loop/deferred.h"
#include "fixd/loop/timer.h"
#include "fixd/model/waiter.h"
#include "image/digest.h"

struct build;
struct edge;
struct effects;
struct fixture;
struct offer;
struct pool;
struct run;
struct image;
struct session;
struct user;
struct watchset;

enum instance_state {
	INSTANCE_ABSENT,
	INSTANCE_WAITING,  /* for dependencies */
	INSTANCE_BUILDING, /* queued or running */
	INSTANCE_CHECKING, /* the check command or the digest of the inputs is running */
	INSTANCE_READY,
	INSTANCE_STALE,
	INSTANCE_FAILED,
};

/* Of what its builder says, the newest part is kept and shown. */
#define INSTANCE_LOG_MAX ((size_t)64 << 10)

/* Of a fixture that fixd itself cannot build. */
#define NOBODY_BUILDS "it is built by the clients that use it, and none of them asks for it now"

struct instance {
	struct session *session;
	const struct fixture *fixture;
	char *key;   /* identity within the session */
	char *title; /* name, name[param], with the scope key: for people */
	char *param, *scope_key;
	char **env;	       /* NAME=value, or NAME when it is not set */
	struct pool *pool;     /* what is asked for is one of its clones; or NULL */
	char *clone;	       /* NAME/NUMBER: one of the clones of that, or what such a one depends on; or NULL */
	struct pool *clone_of; /* NULL: of none, or it is the dependency of one */
	struct link waiters;
	size_t n_waiters, n_holders, n_builders; /* and of those who will hold it, and who can build it */
	struct edge *edges;			 /* to its dependencies, or NULL */
	size_t n_edges;
	struct link dependents; /* edge::in_dependency */

	enum instance_state state;
	struct image *current;	/* a reference */
	struct image *last;	/* the newest image while it lives; no reference */
	struct image **pins;	/* dependencies that are ready while others are being built */
	struct watchset *watch; /* the inputs of the current image or of the failure */
	uint64_t looked_for;	/* client::id: they are looked at because it is to build; 0: not */
	struct build *build;
	struct offer *offer;	/* a client builds it */
	unsigned lost_builders; /* in a row */
	const struct run *run;	/* that it lives as long as, or NULL */
	uint32_t generation;
	uint32_t board_slot;
	bool anew;	    /* no image that is somewhere already will do: it was refused */
	unsigned unsettled; /* builds in a row whose inputs changed meanwhile */
	uint64_t builds;
	int64_t rested; /* since when nobody is at work on it */
	char *stale_cause;
	char *error; /* of the last build or of a dependency: a sentence */
	bool failed; /* and the failure is to be kept */
	char *failed_error;
	int64_t failed_at;
	bool not_started;     /* nothing was tried: for want of a process or descriptors */
	uint64_t failed_full; /* account::bytes when there was no room for it; 0: that was not why */
	struct digest failed_section;
	uint64_t *failed_with; /* serials of the dependencies a failed build saw */
	struct text log;
	int64_t eager_from; /* asked for by the policy at this time; 0: not */
	struct timer expiry;
	struct deferred waking; /* looks again who can be answered */
	struct timer restart;	/* of a service that has ended by itself */
	bool told_untouched;	/* that its services do not use their data */
	bool told_unclean;	/* that a server has left these that was killed */
	unsigned deaths;	/* in a row, each soon after its start */
	bool restarting;	/* it was not asked for, but is to run again */
	char *teardown_error;	/* of the last image that was torn down, or NULL */
	uint64_t resolved_in;	/* number of the last resolution that asked for it, and */
	enum outcome resolved_as;
	uint64_t mark;	 /* of instance_propagate() */
	size_t saved_at; /* its number in the state that is being written */
};

/* name or name[param]; to be freed. */
char *instance_plain_name(const struct instance *i);
/* Of a clone: is it one that a holder gets, and not what one depends on? */
bool instance_is_own_clone(const struct instance *i);
/* Of what is an instance's everyday life: of clones, which come and go, it is too much. */
enum log_level instance_log_level(const struct instance *i);
/* Soon looks whether somebody can be answered now who could not before. */
void instance_wake(struct instance *i);
/* Whose turn its build is: the user who waits for it first, or for what depends on it. NULL: the daemon. */
struct user *instance_asker(const struct instance *i);
/* Wants it for the policy's sake (warm, eager). Of clones their pool decides. */
void instance_warm(struct instance *i);
/* The same, whatever it is: for its pool. */
void instance_begin(struct instance *i);
/* Nor is it wanted for the policy's sake: what has not begun is not built. */
void instance_give_up(struct instance *i);

/* Takes the current image out of the table; holders keep it. Does nothing when there is none. */
void instance_retire(struct instance *i, const char *cause);
/* On the board `im`, which is not its current image (NULL: it has none), is stale. A clone that lives is its holder's, whatever its inputs do. */
void instance_show_stale(const struct instance *i, const struct image *im);
/* The same, of one that must not come back from another machine either: too old, not what its check wants, or cleaned up. */
void instance_refuse(struct instance *i, const char *cause);
/* Forgets a failure. */
void instance_clear_failure(struct instance *i);

/*
 * The definition was read again. False: this instance has no place in it. Otherwise instance_propagate() is to follow, when all
 * instances know their new definitions.
 */
bool instance_redefine(struct instance *i, const struct fixture *f);

/* Something about it has changed: answers those who asked, and lets those who depend on it go on. */
void instance_propagate(struct instance *i);

/* Its inputs may have changed: looks, and acts as the policy says. For watchset_new(). */
void instance_inputs_event(void *instance);

/* Follows what max-age says after the image was used. */
void instance_rearm_expiry(struct instance *i);
/* What became of an image, if it is of an instance: a lease has ended; it is going. */
void instance_image_unheld(struct image *im);
void instance_image_gone(struct image *im);

/* What changed since the build began, as somebody who asked at `asked` must know it; a sentence to be freed, or NULL. */
char *instance_inputs_changed(struct instance *i, int64_t asked);

/*
 * What the builders report. Takes `im`, and returns the image that is current now (no reference): instance_propagate() is to
 * follow. NULL, and everybody was told: it is built again, or has failed, because its inputs changed.
 */
struct image *instance_built(struct instance *i, struct image *im, const char *changed);
/* `no_room`: it may be tried again when others have given memory back. `changed`: what is known of its inputs, or NULL. */
void instance_build_failed(struct instance *i, const char *sentence, bool no_room, const char *changed);
/* The same of one that could not be begun, which is tried again soon. */
void instance_not_started(struct instance *i, const char *sentence, const char *changed);
/* The same, but it is not its fault: tried again, unless that has happened too often in a row. */
void instance_build_again(struct instance *i, const char *cause, const char *sentence);
/* Its service has ended by itself. */
void instance_service_died(struct instance *i, struct image *im, const char *sentence);
/* Is a new service of it to be watched for whether it uses its data? Of clones only the first ones. */
bool instance_asks_for_touch(const struct instance *i);
/* Its data are those of a server that was killed, which this tells. That, and the next, is told once of all clones. */
void instance_data_unclean(struct instance *i, const char *what);
/* At its end: it has not used its data. */
void instance_data_untouched(struct instance *i, const struct image *im);
/* NULL, or what went wrong with it. */
void instance_torn_down(struct instance *i, const char *wrong);
/* What its builder, or what was built, says. The newest part is kept. */
void instance_log(struct instance *i, const char *data, size_t size);
/* The client that was to build it is gone. */
void instance_builder_lost(struct instance *i);
void instance_checked(struct instance *i, bool fits, int64_t started, const char *cause);
/* Its reset is over. */
void instance_was_reset(struct instance *i, bool done, const char *cause);
/* A comparison of its inputs is over; the same as instance_checked() but that the check command is still to be asked. */
void instance_compared(struct instance *i, bool same, const char *cause);

/* Would its image be refused now, as far as that can be told without running anything? */
bool instance_is_stale(struct instance *i, int64_t asked);

/* The newest image of it, in the place of what was that. */
void instance_set_last(struct instance *i, struct image *im);
/* The image of an earlier instance of the same is still there: what is built next comes after it. */
void instance_inherit_generation(struct instance *i, struct image *im);

/* What is known of it from another process: takes what `saved` points at. */
void instance_resume(struct instance *i, struct instance *saved);

/* Nothing keeps it: no image, no build, nobody waits. */
bool instance_idle(const struct instance *i);
const char *instance_state_name(const struct instance *i);

struct instance *instance_new(struct session *s, const struct fixture *f, const char *param, const char *scope_key, char **env,
			      const char *clone);
/* Before it is used: what it does by the clock. */
void instance_init_timers(struct instance *i);
struct instance *instance_free(struct instance *i);

/* What the files of an instance share: instance.c, its states; result.c, expiry.c, service.c; and waiter.c, who waits for it. */

struct model *instance_model(const struct instance *i);
/* For instance::restart. */
void instance_start_again(void *instance);
/* It is to run again, after a while if it has died soon. */
void instance_restart_later(struct instance *i);

/* Of a clone that nobody holds or needs any more: what was, or might have been, used is of no use to anybody else. */
void instance_give_back(struct image *im);

/* coherence.c: what has become of its dependencies while nobody told it; a sentence, to be freed, or NULL. */
char *instance_lost_dependency(const struct instance *i);
/* What was made from an earlier image of `dep` goes; what was made with the help of `im`, which is torn down, too. */
void instance_retire_outdated(const struct instance *dep);
void instance_retire_holders(const struct instance *i, struct image *im);
/* While it was built or looked at, a dependency may have become another one: then it is stale. */
void instance_check_dependencies(struct instance *i);
/* The state of an instance nobody is at work on. */
void instance_set_idle(struct instance *i);
/* Why it is stale; copied. */
void instance_set_cause(struct instance *i, const char *cause);
/* Takes the sentence. */
void instance_set_error(struct instance *i, char *sentence);
/* Pinned images are those a build was, or will be, started with: they do not expire meanwhile. */
void instance_set_pin(struct instance *i, size_t k, struct image *im);
void instance_unpin(struct instance *i);
/* Who does what it wants done. */
const struct effects *instance_effects(const struct instance *i);
