/* SPDX-License-Identifier: MIT */
/*
 * fixd-builder: the helper process. fixd starts one for every build and every check, tells it over descriptor 3 what to do,
 * and gets the sealed image, or a sentence, back. Whatever a plugin or command does wrong happens here.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "builder/keep.h"
#include "builder/processes.h"
#include "builder/remote.h"
#include "builder/usage.h"
#include "builder/work.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define UNHEARD_TRIES 1000
#define UNHEARD_MS 10

/* The daemon has died, or wants an end: so does everything that was started. */
static void on_orphaned(int signal)
{
	(void)signal;
	processes_die(); /* NOLINT(bugprone-signal-handler): it is made for that */
}

/* Whatever that starts is found among our descendants, also where it has a session of its own. */
static bool runs_a_shell(enum job_kind kind)
{
	return kind == JOB_COMMAND || kind == JOB_TREE || kind == JOB_CHECK;
}

static int receive_job(struct work *w)
{
	int *fds = xcalloc(SOCKET_FDS_MAX, sizeof *fds), r;
	size_t n_fds = SOCKET_FDS_MAX, size = 0, behind;
	ssize_t n = socket_receive(w->channel, &size, sizeof size, fds, &n_fds, 0);
	char *job;

	if (n != sizeof size || n_fds == 0)
		return n < 0 ? (int)n : -EPIPE;
	job = xcalloc(1, size);
	r = fd_pread_all(fds[0], job, size, 0) == (ssize_t)size ? job_decode(job, size, &w->job) : -EIO;
	fd_close(fds[0]);
	free(job);
	w->dep_fds = fds + 1;
	behind = 1 + w->job.n_dependencies;
	if (r < 0 || n_fds != behind + w->job.kept + w->job.has_image + w->job.holds)
		return r < 0 ? r : -EBADMSG;
	w->note = w->job.kept ? fds[behind++] : -1;
	w->image = w->job.has_image ? fds[behind++] : -1;
	w->holds = fds + behind;
	return 0;
}

static int map_dependencies(struct work *w)
{
	for (size_t i = 0; i < w->job.n_dependencies; i++) {
		const struct job_dependency *d = &w->job.dependencies[i];
		void *want = (void *)(uintptr_t)d->address, *p;

		if (d->direct)
			work_export(d->name, "FIXD_DEP_", d->path, w->dep_fds[i]);
		if (d->size == 0)
			continue;
		p = mmap(want, d->size, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, w->dep_fds[i], 0);
		if (p != want)
			return work_fail(w, -EEXIST, "dependency '%s' cannot be mapped at %p", d->name, want);
	}
	return 0;
}

static int do_job(struct work *w, struct digest *inputs)
{
	static int (*const sources[])(struct work * w) = {
		[JOB_FILE] = source_file, [JOB_DIRECTORY] = source_directory, [JOB_COMMAND] = source_command, [JOB_PLUGIN] = source_plugin,
		[JOB_TREE] = source_tree, [JOB_CHECK] = source_check,	      [JOB_SERVICE] = source_service,
	};
	int r = 0;

	if (w->job.kind == JOB_REAP)
		return keep_reap(w);

	if (w->job.inputs && w->job.inputs[0])
		r = digest_files(w->job.inputs, inputs);
	if (r < 0)
		return work_fail(w, r, "the inputs cannot be digested: %s", strerror(-r));
	if (w->job.kind == JOB_DIGEST)
		return 0;
	if (chdir(w->job.root) < 0)
		return work_fail(w, -errno, "%s cannot be entered: %s", w->job.root, strerror(errno));
	work_set_environment(&w->job);
	if (w->job.has_image)
		work_export("", "FIXD_VALUE", w->job.tree, w->image);
	r = map_dependencies(w);
	if (r == 0 && w->job.kind == JOB_SERVICE)
		r = keep_begin(w->keep, w);
	if (w->job.kind == JOB_FILE)
		source_file_reserve(w);
	if (r == 0 && w->job.reserved)
		r = work_make_space(w);
	if (r == 0 && w->job.remote && *w->job.remote) {
		r = remote_take(w);
		w->taken = r == 1;
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return r < 0 ? r : sources[w->job.kind](w);
}

/* An image that cannot be sealed is an error like any other. */
static void seal(struct work *w)
{
	int r = -ENODATA;

	if (w->error == 0 && w->space.base && (r = space_seal(&w->space, &w->image)) < 0)
		work_fail(w, r, "the image cannot be sealed: %s", strerror(-r));
	w->sealed = r == 0;
}

/* Nobody takes the result. A daemon that lives ends this process, and says why; one that has died is not its parent any more. */
_Noreturn static void end_unheard(pid_t daemon)
{
	for (int tries = 0; tries < UNHEARD_TRIES && getppid() == daemon; tries++)
		poll(NULL, 0, UNHEARD_MS);
	processes_die();
}

/* What is published has to be torn down from then on. */
static void prepare_to_keep(struct work *w)
{
	struct keep *k = w->keep;
	int r = w->error;

	if (r == 0 && w->job.kind != JOB_SERVICE)
		r = keep_begin(k, w);
	w->job.built = r == 0;
	if (r == 0)
		r = keep_note(k);
	if (r < 0 && w->job.kind == JOB_SERVICE && k->work) /* else it was not begun */
		keep_abandon(k);
	if (r == 0)
		work_export("", "FIXD_VALUE", w->job.tree, w->image);
}

static int send_result(struct work *w, const struct digest *inputs)
{
	char message[sizeof(struct job_result) + JOB_SENTENCE_MAX];
	struct usage used = usage_of_build();
	struct job_result r = {
		.message = JOB_RESULT,
		.cpu_ns = used.cpu_ns,
		.peak_bytes = used.peak_bytes,
		.error = w->error,
		.size = w->space.used,
		.root = w->root,
		.tree_bytes = w->other_bytes,
		.digest = w->digest,
		.inputs = *inputs,
		.service = (uint32_t)w->service,
	};
	const char *sentence = w->error ? w->sentence : w->unsandboxed;
	int fds[2] = { w->image, w->keep->hold[1] };
	size_t n_fds = w->error || !w->sealed ? 0 : w->keep->hold[1] >= 0 ? 2 : 1;

	r.sentence = sentence ? (uint32_t)strnlen(sentence, JOB_SENTENCE_MAX) : 0;
	memcpy(message, &r, sizeof r);
	if (r.sentence)
		memcpy(message + sizeof r, sentence, r.sentence);
	return socket_send(w->channel, message, sizeof r + r.sentence, fds, n_fds, 0);
}

/* A pointer in a packed struct is found by nobody who would have to change it. */
static int tell_at_home(const struct work *w)
{
	const struct job_handover message = { .message = JOB_AT_HOME };

	return socket_send(w->channel, &message, sizeof message, NULL, 0, 0);
}

int main(int argc, char **argv)
{
	static char line[4096]; /* not from malloc(), which may mean the image */
	struct keep k = KEEP_EMPTY;
	struct work w = { .channel = JOB_CHANNEL_FD, .space = { .fd = -1 }, .image = -1, .note = -1, .parts = -1, .keep = &k };
	struct digest inputs = { 0 };
	pid_t daemon = getppid();
	bool stays;
	int r;

	if (argc > 1 && !strcmp(argv[1], "--keep"))
		keep_resume(argv);
	if (argc > 1 && !strcmp(argv[1], "--offer"))
		remote_offer_by_hand(argv + 2);
	if (argc > 1 && !strcmp(argv[1], "--verify"))
		plugin_verify_here(argv + 2);
	fd_survive_limit();
	signal(SIGTERM, on_orphaned);
	w.umask = umask(0);
	umask(w.umask);
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0) {
		fprintf(stderr, "fixd-builder: prctl(2) is refused: %s; expected a seccomp filter that allows PR_SET_PDEATHSIG\n",
			strerror(errno));
		return EXIT_FAILURE;
	}
	prctl(PR_SET_NAME, "fixd-builder"); /* started by descriptor it would be called by its number */
	fd_set_cloexec(w.channel, true);
	/* What a plugin prints belongs into the log. */
	r = fd_dup_to(2, 1);
	if (r < 0) {
		fprintf(stderr, "fixd-builder: standard output cannot be set up: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}
	setvbuf(stdout, line, _IOLBF, sizeof line);
	r = receive_job(&w);
	if (r < 0) {
		fprintf(stderr, "fixd-builder: no job on descriptor %d (%s); it is started by fixd\n", w.channel, strerror(-r));
		return 2;
	}
	stays = w.job.kept && w.job.kind != JOB_REAP;
	if (runs_a_shell(w.job.kind))
		processes_adopt();
	do_job(&w, &inputs);
	/* What a teardown is to end is left to that. */
	if (!stays || w.error)
		processes_end_all();
	fflush(NULL);
	seal(&w);
	if (w.sealed && w.job.verify && w.job.kind == JOB_PLUGIN)
		plugin_verify(&w);
	if (stays)
		prepare_to_keep(&w);
	if (w.packed && (r = tell_at_home(&w)) < 0)
		work_fail(&w, r, "fixd is not told that its objects must stay where they are: %s", strerror(-r));
	remote_offer(&w);
	r = send_result(&w, &inputs);
	/* If nobody took it, the end of the channel is seen at once. */
	if (stays && w.job.built && w.job.kind == JOB_SERVICE)
		keep_on(&k);
	if (stays && w.job.built)
		keep_anew(&k);
	/* Nor is anybody there to end what was started: the daemon's descriptors close before its death is signalled. */
	if (r < 0)
		end_unheard(daemon);
	if (stays)
		processes_end_all(); /* it was not kept */
	/* No destructors: a plugin's threads may still run. */
	_exit(EXIT_SUCCESS);
}
