/* SPDX-License-Identifier: MIT */
/* Attaching, against the least that any server could do. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fixd.h"
#include "image/memfd.h"
#include "wire/socket.h"

#define ROUNDS 40
#define BATCH 250
#define SIZE ((size_t)64 << 20)

static double ours[ROUNDS * BATCH], theirs[ROUNDS * BATCH];

/* A server that does nothing but answer with a descriptor. */
static int bare_server(pid_t *pid)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		bench_die("no socket");
	*pid = fork();
	if (*pid == 0) {
		int fd = memfd_new("bench");
		char message[256];
		ssize_t n;

		bench_pin(0); /* as the daemon */
		close(pair[0]);
		if (fd < 0 || ftruncate(fd, SIZE) < 0 || memfd_seal(fd) < 0)
			_exit(1);
		while ((n = recv(pair[1], message, sizeof message, 0)) > 0)
			socket_send(pair[1], message, 96, &fd, 1, 0);
		_exit(0);
	}
	close(pair[1]);
	return pair[0];
}

static double bare_attach(int fd)
{
	char message[256] = { 0 };
	size_t n_fds = 1;
	int image = -1;
	double start = measure_now(), took;
	void *p;

	if (socket_send(fd, message, 40, NULL, 0, 0) < 0 || socket_receive(fd, message, sizeof message, &image, &n_fds, 0) <= 0)
		bench_die("the bare server does not answer");
	p = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, image, 0);
	close(image);
	took = measure_now() - start;
	if (p == MAP_FAILED)
		bench_die("mmap: %s", strerror(errno));
	munmap(p, SIZE);
	return took * 1e6;
}

static double attach(struct fixd *f, const char *name)
{
	struct fixd_view *v;
	double start = measure_now(), took;

	if (fixd_attach(f, name, NULL, &v) < 0)
		bench_die("%s", fixd_error(f));
	took = measure_now() - start;
	fixd_detach(v);
	return took * 1e6;
}

static struct fixd *open_it(const struct bench_daemon *d)
{
	struct fixd *f;

	if (fixd_open(&f, d->socket) < 0)
		bench_die("%s", fixd_error(NULL));
	return f;
}

static void against_bare(struct fixd *f, const char *how, double reach)
{
	pid_t pid;
	int fd = bare_server(&pid);
	static char what[64];

	attach(f, "image");
	for (int r = 0; r < ROUNDS; r++) {
		for (int i = 0; i < BATCH; i++)
			ours[r * BATCH + i] = attach(f, "image");
		for (int i = 0; i < BATCH; i++)
			theirs[r * BATCH + i] = bare_attach(fd);
	}
	close(fd);
	waitpid(pid, NULL, 0);
	snprintf(what, sizeof what, "attach 64 MiB, warm, %s", how);
	row_add((struct row){ what, "socketpair server: round trip + SCM_RIGHTS + mmap", "us", measure_quantile(ours, ROUNDS * BATCH, 0.5),
			      measure_quantile(ours, ROUNDS * BATCH, 0.99), measure_quantile(theirs, ROUNDS * BATCH, 0.5),
			      measure_quantile(theirs, ROUNDS * BATCH, 0.99), reach, false });
}

static void with_watches(struct fixd *f)
{
	attach(f, "watched");
	attach(f, "image");
	for (int r = 0; r < ROUNDS; r++) {
		for (int i = 0; i < BATCH; i++)
			ours[r * BATCH + i] = attach(f, "watched");
		for (int i = 0; i < BATCH; i++)
			theirs[r * BATCH + i] = attach(f, "unwatched");
	}
	row_add((struct row){ "attach with 8 watched files", "the same without", "us", measure_quantile(ours, ROUNDS * BATCH, 0.5),
			      measure_quantile(ours, ROUNDS * BATCH, 0.99), measure_quantile(theirs, ROUNDS * BATCH, 0.5),
			      measure_quantile(theirs, ROUNDS * BATCH, 0.99), 1.1, false });
}

static void current(struct fixd *f)
{
	enum { LOOKS = 1000000 };
	_Atomic uint64_t word = 7;
	struct fixd_view *v;
	uint64_t sum = 0;

	if (fixd_attach(f, "image", NULL, &v) < 0)
		bench_die("%s", fixd_error(f));
	for (int r = 0; r < ROUNDS; r++) {
		double start = measure_now();

		for (int i = 0; i < LOOKS; i++) {
			sum += fixd_view_current(v);
			__asm__ volatile("" ::: "memory");
		}
		ours[r] = (measure_now() - start) / LOOKS * 1e9;
		start = measure_now();
		for (int i = 0; i < LOOKS; i++) {
			sum += atomic_load_explicit(&word, memory_order_acquire) == 7;
			__asm__ volatile("" ::: "memory");
		}
		theirs[r] = (measure_now() - start) / LOOKS * 1e9;
	}
	if (sum != (uint64_t)2 * ROUNDS * LOOKS)
		bench_die("the view is out of date");
	fixd_detach(v);
	row_add((struct row){ "fixd_view_current", "one atomic load", "ns", measure_quantile(ours, ROUNDS, 0.5),
			      measure_quantile(ours, ROUNDS, 0.99), measure_quantile(theirs, ROUNDS, 0.5),
			      measure_quantile(theirs, ROUNDS, 0.99), 2, false });
}

void bench_attach(void)
{
	struct bench_daemon d = bench_daemon_start("[policy]\nmax-age = none\n"
						   "[fixture image]\ncommand = head -c 64M /dev/zero\n"
						   "[fixture unwatched]\ncommand = head -c 1M /dev/zero\n"
						   "[fixture watched]\ncommand = head -c 1M /dev/zero\n"
						   "watch = 1, 2, 3, 4, 5, 6, 7, 8\n",
						   0);
	struct fixd *f;

	bench_pin(0);
	for (int i = 1; i <= 8; i++) {
		char name[4];

		snprintf(name, sizeof name, "%d", i);
		fclose(fopen(bench_path(&d, name), "w"));
	}
	f = open_it(&d);
	against_bare(f, "one CPU", 1.25);
	with_watches(f);
	current(f);
	bench_pin(1);
	against_bare(f, "two CPUs", 0);
	fixd_close(f);
	bench_daemon_stop(&d);
}
