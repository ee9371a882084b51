/* SPDX-License-Identifier: MIT */
/* libfixd from C, against a daemon of its own: runs plain, under the sanitizers and under valgrind. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fixd.h"
#include "tap.h"

#define WAIT_MS 60000

static char dir[] = "/tmp/fixd-unit-XXXXXX";
static char socket_path[64];
static pid_t daemon_pid;

static void write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	f = fopen(path, "w");
	check(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void start_daemon(void)
{
	const char *build = getenv("FIXD_BUILD");
	char program[4096], config[128], ready[2][16];
	struct pollfd p;
	int pipes[2];

	check(build && pipe(pipes) == 0);
	snprintf(program, sizeof program, "%s/fixd", build);
	snprintf(config, sizeof config, "%s/fixd.ini", dir);
	snprintf(ready[0], sizeof ready[0], "%d", pipes[1]);
	daemon_pid = fork();
	if (daemon_pid == 0) {
		unsetenv("LD_PRELOAD");
		close(pipes[0]);
		execl(program, "fixd", "--config", config, "--socket", socket_path, "--ready-fd", ready[0], "--log-level", "error",
		      (char *)NULL);
		_exit(127);
	}
	close(pipes[1]);
	p = (struct pollfd){ .fd = pipes[0], .events = POLLIN };
	check(poll(&p, 1, WAIT_MS) == 1 && read(pipes[0], ready[1], 1) == 1);
	close(pipes[0]);
}

static void set_up(void)
{
	check(mkdtemp(dir) != NULL);
	snprintf(socket_path, sizeof socket_path, "%s/socket", dir);
	write_file("input", "twelve bytes");
	write_file("fixd.ini", "[fixture f]\nfile = input\n"
			       "[fixture big]\ncommand = head -c 8M /dev/zero\n"
			       "[fixture gated]\ncommand = until test -e go; do sleep 0.01; done; echo gated\n"
			       "[fixture bad]\ncommand = echo the reason >&2; false\n");
	start_daemon();
}

static struct fixd *open_it(void)
{
	struct fixd *f;

	check_int(fixd_open(&f, socket_path), 0);
	return f;
}

static struct fixd_view *attach(struct fixd *f, const char *name, unsigned flags)
{
	struct fixd_options o = { .size = sizeof o, .flags = flags, .timeout_ms = WAIT_MS };
	struct fixd_view *v;

	if (fixd_attach(f, name, &o, &v) < 0) {
		printf("# %s\n", fixd_error(f));
		check(!"attached");
	}
	return v;
}

static void attach_and_detach(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "f", FIXD_RO);

	check_int(fixd_view_size(v), 12);
	check(!memcmp(fixd_view_data(v), "twelve bytes", 12) && fixd_view_root(v) == fixd_view_data(v));
	check(fixd_view_current(v) && fixd_view_path(v) == NULL);
	check_int(fixd_view_generation(v), 1);
	check_int(fixd_view_reset(v), 0);
	check_int(fixd_view_changes(v, NULL, 0), 0);
	fixd_detach(v);
	fixd_detach(NULL);
	fixd_close(f);
	fixd_close(NULL);
}

static void close_before_detach(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "f", FIXD_COW);

	fixd_close(f);
	((char *)fixd_view_root(v))[0] = 'T';
	check_int(fixd_view_reset(v), 1);
	check(!memcmp(fixd_view_data(v), "twelve", 6));
	fixd_detach(v);
}

static void copy_on_write(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "big", FIXD_COW), *other = attach(f, "big", FIXD_COW);
	char *p = fixd_view_root(v), *q = fixd_view_root(other);
	struct fixd_range ranges[2];

	p[5] = p[4096 * 100] = p[8388607] = 'x';
	check(q[5] == 0);
	check_int(fixd_view_changes(v, ranges, 2), 3);
	check(ranges[0].start == p + 5 && ranges[0].length == 1 && ranges[1].start == p + 4096 * 100);
	check_int(fixd_view_reset(v), 3);
	check(p[5] == 0 && p[4096 * 100] == 0 && p[8388607] == 0);
	check_int(fixd_view_changes(v, NULL, 0), 0);
	fixd_detach(v);
	fixd_detach(other);
	fixd_close(f);
}

/* What a program that was compiled with a longer struct passes. */
struct longer_options {
	struct fixd_options known;
	uint64_t of_later;
};

static void structs_of_other_versions(void)
{
	struct fixd *f = open_it();
	struct longer_options o = { .known = { .size = sizeof o, .timeout_ms = WAIT_MS } };
	struct fixd_view *v;

	check_int(fixd_attach(f, "f", &o.known, &v), 0);
	fixd_detach(v);
	o.of_later = 1;
	check_int(fixd_attach(f, "f", &o.known, &v), -E2BIG);
	check(v == NULL && strstr(fixd_error(f), "fields that this libfixd"));
	o.of_later = 0;
	o.known.size = 4;
	check_int(fixd_attach(f, "f", &o.known, &v), -EINVAL);
	check(strstr(fixd_error(f), "fixd_options.size is 4: expected"));
	o.known.size = sizeof o.known;
	o.known.flags = 1 << 20;
	check_int(fixd_attach(f, "f", &o.known, &v), -EINVAL);
	check(strstr(fixd_error(f), "bits that are not known here: 0x100000"));
	o.known.flags = 0;
	o.known.timeout_ms = -2;
	check_int(fixd_attach(f, "f", &o.known, &v), -EINVAL);
	o.known.timeout_ms = FIXD_TIMEOUT_NONE;
	check_int(fixd_attach(f, "f", &o.known, &v), 0);
	check_int(fixd_view_flags(v) & FIXD_VIEW_COW, 0);
	check_int(fixd_version(), FIXD_VERSION);
	check_int(fixd_join(f, dir, NULL, 1 << 7), -EINVAL);
	fixd_detach(v);
	fixd_close(f);
}

/* Asks, and asks again whenever there is something to hear. */
static int poll_for(struct fixd *f, const char *name, struct fixd_view **v)
{
	struct fixd_options o = { .size = sizeof o, .flags = FIXD_COW | FIXD_NOWAIT, .timeout_ms = WAIT_MS };
	int r;

	while ((r = fixd_attach(f, name, &o, v)) == -EAGAIN) {
		struct pollfd p = { .fd = fixd_fd(f), .events = POLLIN };

		check(*v == NULL && p.fd >= 0 && poll(&p, 1, WAIT_MS) == 1);
	}
	return r;
}

static void without_waiting(void)
{
	struct fixd *f = open_it();
	struct fixd_options o = { .size = sizeof o, .flags = FIXD_COW | FIXD_NOWAIT, .timeout_ms = WAIT_MS };
	struct fixd_view *v, *w;
	int r;

	/* It is built when there is a file "go". */
	check_int(fixd_attach(f, "gated", &o, &v), -EAGAIN);
	check(v == NULL && strstr(fixd_error(f), "'gated' is not ready yet"));
	check_int(fixd_attach(f, "f", &o, &w), -EBUSY);
	check(strstr(fixd_error(f), "'gated' is asked for, and its answer has not come yet"));
	for (int k = 0; k < 300; k++)
		fixd_detach(attach(f, "f", FIXD_RO));
	check_int(fixd_attach(f, "gated", &o, &v), -EAGAIN);
	write_file("go", "");
	check_int(poll_for(f, "gated", &v), 0);
	check_int(fixd_view_flags(v) & (FIXD_VIEW_BUILT | FIXD_VIEW_COW), FIXD_VIEW_BUILT | FIXD_VIEW_COW);
	/* Whether or not another call has taken its answer, which is given back then: it is had in the end. */
	for (int k = 0; k < 20; k++) {
		r = fixd_attach(f, "big", &o, &w);
		check(r == 0 || r == -EAGAIN);
		if (r == -EAGAIN) {
			fixd_detach(attach(f, "f", FIXD_RO));
			check_int(poll_for(f, "big", &w), 0);
		}
		check_int(fixd_view_size(w), 8 << 20);
		fixd_detach(w);
	}
	/* So is its error. */
	for (int k = 0; k < 20; k++) {
		r = fixd_attach(f, "bad", &o, &w);
		check(r == -EIO || r == -EAGAIN);
		if (r == -EAGAIN) {
			fixd_detach(attach(f, "f", FIXD_RO));
			check_int(poll_for(f, "bad", &w), -EIO);
		}
	}
	fixd_detach(v);
	fixd_close(f);
}

static void errors_are_sentences(void)
{
	struct fixd *f = open_it();
	struct fixd_options wrong = { .size = 1 }, flags = { .size = sizeof flags, .flags = 1 << 20 };
	struct fixd_view *v = (void *)1;

	check_int(fixd_attach(f, "nothing", NULL, &v), -ENOENT);
	check(v == NULL && strstr(fixd_error(f), "no fixture 'nothing'"));
	check_int(fixd_attach(f, "", NULL, &v), -EINVAL);
	check_int(fixd_attach(f, "f", &wrong, &v), -EINVAL);
	check_int(fixd_attach(f, "f", &flags, &v), -EINVAL);
	check_int(fixd_attach(f, "bad", NULL, &v), -EIO);
	check(strstr(fixd_error(f), "status 1") && strstr(fixd_error(f), "the reason"));
	fixd_detach(attach(f, "f", FIXD_RO));
	fixd_close(f);
	check_int(fixd_open(&f, "/nowhere/socket"), -ENOENT);
	check(f == NULL && strstr(fixd_error(NULL), "/nowhere/socket"));
}

static void a_child_of_fork(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "big", FIXD_COW);
	char *p = fixd_view_root(v);
	int status;
	pid_t pid;

	p[0] = 'p';
	pid = fork();
	if (pid == 0) {
		struct fixd_view *own;
		int bad = p[0] != 'p';

		p[4096] = 'c';
		bad |= fixd_view_reset(v) != 2 || p[0] != 0;
		bad |= fixd_attach(f, "f", NULL, &own) != 0;
		if (!bad)
			fixd_detach(own);
		fixd_detach(v);
		fixd_close(f);
		_exit(bad);
	}
	check(waitpid(pid, &status, 0) == pid && status == 0);
	check(p[0] == 'p' && p[4096] == 0);
	fixd_detach(v);
	fixd_close(f);
}

static void *work(void *arg)
{
	long bad = 0;
	struct fixd *f;

	(void)arg;
	if (fixd_open(&f, socket_path) < 0)
		return (void *)1;
	for (int i = 0; i < 30; i++) {
		struct fixd_options o = { .size = sizeof o, .flags = i % 2 ? FIXD_COW : FIXD_RO, .timeout_ms = WAIT_MS };
		struct fixd_view *v;

		if (fixd_attach(f, i % 3 ? "f" : "big", &o, &v) < 0) {
			bad++;
			continue;
		}
		if (i % 2) {
			((char *)fixd_view_root(v))[1] = 'x';
			bad += fixd_view_reset(v) != 1;
		}
		bad += !fixd_view_current(v);
		fixd_detach(v);
	}
	fixd_close(f);
	return (void *)bad;
}

static void many_threads(void)
{
	pthread_t threads[6];

	for (size_t i = 0; i < 6; i++)
		check_int(pthread_create(&threads[i], NULL, work, NULL), 0);
	for (size_t i = 0; i < 6; i++) {
		void *bad;

		check_int(pthread_join(threads[i], &bad), 0);
		check(bad == NULL);
	}
}

/* Threads that only read views need no lock, also while others attach. */
static struct fixd_view *shared;

static void *look(void *arg)
{
	uintptr_t sum = 0;

	(void)arg;
	for (int i = 0; i < 10000; i++)
		sum += fixd_view_current(shared) + (size_t)((const char *)fixd_view_data(shared))[i % 12];
	return sum ? NULL : arg;
}

static void a_view_of_all_threads(void)
{
	struct fixd *f = open_it();
	pthread_t threads[4];

	shared = attach(f, "f", FIXD_RO);
	for (size_t i = 0; i < 4; i++)
		check_int(pthread_create(&threads[i], NULL, look, NULL), 0);
	for (int i = 0; i < 20; i++)
		fixd_detach(attach(f, "f", FIXD_RO));
	for (size_t i = 0; i < 4; i++)
		check_int(pthread_join(threads[i], NULL), 0);
	fixd_detach(shared);
	fixd_close(f);
}

static void out_of_date(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "f", FIXD_RO), *w;

	write_file("input", "other");
	w = attach(f, "f", FIXD_RO);
	check(!fixd_view_current(v) && fixd_view_current(w) && fixd_view_size(w) == 5);
	check(!memcmp(fixd_view_data(v), "twelve bytes", 12));
	fixd_detach(v);
	fixd_detach(w);
	fixd_close(f);
}

static void the_daemon_dies(void)
{
	struct fixd *f = open_it();
	struct fixd_view *v = attach(f, "f", FIXD_COW);
	char command[128];
	int status;

	kill(daemon_pid, SIGKILL);
	check(waitpid(daemon_pid, &status, 0) == daemon_pid);
	check_int(fixd_attach(f, "f", NULL, &(struct fixd_view *){ NULL }), -ECONNREFUSED);
	check(strstr(fixd_error(f), "no daemon at") && !fixd_view_current(v));
	((char *)fixd_view_root(v))[0] = 'x';
	check_int(fixd_view_reset(v), 1);
	start_daemon();
	fixd_detach(attach(f, "f", FIXD_RO));
	fixd_detach(v);
	fixd_close(f);
	kill(daemon_pid, SIGTERM);
	check(waitpid(daemon_pid, &status, 0) == daemon_pid && status == 0);
	snprintf(command, sizeof command, "rm -rf '%s'", dir);
	check_int(system(command), 0);
}

static const struct tap_test tests[] = {
	TAP_TEST(set_up),
	TAP_TEST(attach_and_detach),
	TAP_TEST(close_before_detach),
	TAP_TEST(copy_on_write),
	TAP_TEST(structs_of_other_versions),
	TAP_TEST(without_waiting),
	TAP_TEST(errors_are_sentences),
	TAP_TEST(a_child_of_fork),
	TAP_TEST(many_threads),
	TAP_TEST(a_view_of_all_threads),
	TAP_TEST(out_of_date),
	TAP_TEST(the_daemon_dies),
};
TAP_MAIN(tests)
