/* SPDX-License-Identifier: MIT */
/*
 * A world for the model of the daemon: sessions, instances, images and waiters as they are, and around them nothing that is real. Time
 * stands still until it is moved, files are numbers, builds and teardowns are jobs in a list that end when somebody ends them. Nothing
 * waits, no process is started, and what happens is the same each time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fixd/model/instance.h"
#include "fixd/model/policy.h"

struct client;
struct keeper;
struct model;
struct record;
struct text;
struct watchset;
struct work;
struct run;
struct world_wait;
struct image;

#define WORLD_FILES 4
/* Of each image. */
#define WORLD_IMAGE_BYTES 8192

enum job_kind_of { JOB_OF_BUILD, JOB_OF_CHECK, JOB_OF_OFFER, JOB_OF_TEARDOWN };

/* What the model wants done, and is not done yet. */
struct world_job {
	enum job_kind_of what;
	struct instance *instance;  /* NULL: of a teardown */
	enum verdict verdict;	    /* of a check */
	struct image *image;	    /* of a teardown */
	uint64_t read[WORLD_FILES]; /* the files as it has seen them */
	int64_t began;
	struct world_wait *wait; /* for memory: it is at its end, but for that; or NULL */
	uint64_t as;
	uint64_t builder; /* client::id of an offer's, and its run, or NULL */
	char *run;
};

struct world {
	struct model *model;
	struct work *work; /* its keepers */
	int memory;	   /* sealed, of WORLD_IMAGE_BYTES, for all images */
	int64_t now;
	uint64_t files[WORLD_FILES];  /* how often the bytes of each were edited */
	uint64_t stamps[WORLD_FILES]; /* and how often it was written to at all */
	struct world_job *jobs;
	size_t n_jobs;
	char *past_run;	 /* of the job that was taken last */
	uint64_t *board; /* values shown, by slot */
	size_t n_slots;
	uint64_t last_value;
	bool roots_gone;			/* of all sessions but the file's */
	bool slow_looks;			/* the next look at inputs takes more than one slice */
	uint64_t n_built, n_torn_down, n_notes; /* images that were made; of these, that somebody is to be told to tear down */
};

extern struct world world;

/* With the fixtures of that ini text, which watch files called "0" to "3". */
void world_begin(const char *ini);
/* The ini text is another one now. */
void world_redefine(const char *ini);
/* Everything goes; what is left is wrong, and ends the program. */
void world_end(void);
/* What is not the daemon's alone: the files, the board, the time; for a world that begins with them. */
struct world world_as_it_is(void);
void world_begin_again(const char *ini, const struct world *before);

struct instance *world_instance(const char *fixture, const char *param);
/* For a member of a run (NULL: of none). NULL: it lives as long as a run, and there is none. */
struct instance *world_instance_in(struct session *s, const struct fixture *f, const char *param, const struct run *run);

/* A deferred call, a timer: all that is due now. */
void world_turn(void);
void world_pass(int64_t ns);
/* Everybody who watches it is told, as inotify does. A touch leaves the bytes as they are. */
void world_edit(unsigned file);
void world_touch(unsigned file);

/* The job `k` ends well; `as`: what its image is made of besides its inputs, so that the same is the same image. */
void world_finish(size_t k, uint64_t as);
/* It ends badly. */
void world_fail(size_t k);
/* It is over, and whoever had it done tells the model himself. */
void world_lose(size_t k);
/* A client is to build it: what it watches is looked at (false: not yet all), and the build is a job. */
bool world_look(struct instance *i);
void world_offer(struct instance *i, const struct client *builder);
/* One that a client is at since the daemon before this one. */
struct world_job *world_resume_offer(struct instance *i, const struct client *builder);
/* What was seen of files with such names, and as it was saved. */
struct watchset *world_see(char *const *patterns);
void world_save_seen(const struct watchset *s, struct text *out);
void world_restore_seen(struct watchset *s, const struct record *saved);
/* One that there was before. */
void world_resume_keeper(struct keeper *k);
/* The service of an image that is current has ended. */
void world_kill(struct instance *i);

/* The inputs that an image was made from, also through what it depends on, as numbers of edits. */
uint64_t world_seen(const struct image *im, unsigned file);
/* Do the bytes of an instance of it hang on that file? Those of "same" are always the same, and so for what is made from it. */
bool world_watches(const struct fixture *f, unsigned file);
/* In all sessions. */
size_t world_orphans(void);
/* What must be true of everything at any time between two calls of the model. NULL, or a sentence about the first thing that is not. */
const char *world_wrong(void);
