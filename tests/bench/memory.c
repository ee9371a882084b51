/* SPDX-License-Identifier: MIT */
/* Resets, loading a file, and first touches. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "fixd.h"
#include "image/memfd.h"

#define MIB ((size_t)1 << 20)
#define ROUNDS_MAX 200

/* By hand, as somebody without fixd would: PAGEMAP_SCAN of Linux 6.7. */
struct hand_region {
	uint64_t start, end, categories;
};

struct hand_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t inverted, mask, anyof, returned;
};

#define HAND_SCAN _IOWR('f', 16, struct hand_scan)

struct mapping {
	char *view, *pristine;
	size_t size;
	int pagemap;
};

static void hand_scan(struct mapping *m, bool copy)
{
	static struct hand_region regions[1024];
	struct hand_scan s = { .size = sizeof s,
			       .start = (uintptr_t)m->view,
			       .end = (uintptr_t)m->view + m->size,
			       .vec = (uintptr_t)regions,
			       .vec_len = 1024,
			       .inverted = 1 << 2 | 1 << 5,
			       .mask = 1 << 2 | 1 << 5,
			       .anyof = 1 << 3 | 1 << 4 };

	while (s.start < s.end) {
		int n = ioctl(m->pagemap, HAND_SCAN, &s);

		if (n < 0)
			bench_die("PAGEMAP_SCAN: %s", strerror(errno));
		for (int i = 0; i < n; i++) {
			char *p = (char *)(uintptr_t)regions[i].start;
			size_t size = regions[i].end - regions[i].start;

			if (copy)
				memcpy(p, m->pristine + (p - m->view), size);
			else
				madvise(p, size, MADV_DONTNEED);
		}
		s.start = s.walk_end;
	}
}

static void drop_all(struct mapping *m)
{
	madvise(m->view, m->size, MADV_DONTNEED);
}

static void scan_drop(struct mapping *m)
{
	hand_scan(m, false);
}

static void scan_copy(struct mapping *m)
{
	hand_scan(m, true);
}

static void dirty(char *p, size_t size, size_t pages)
{
	size_t step = size / 4096 / pages;

	for (size_t i = 0; i < pages; i++)
		p[i * step * 4096 + 5]++;
}

struct cycle {
	double whole[ROUNDS_MAX], reset[ROUNDS_MAX];
};

static void one_cycle(struct cycle *c, int round, struct mapping *m, void (*reset)(struct mapping *m), struct fixd_view *v, size_t pages)
{
	double start = measure_now(), dirtied, end;

	dirty(m->view, m->size, pages);
	dirtied = measure_now();
	if (reset)
		reset(m);
	else if (fixd_view_reset(v) < 0)
		bench_die("the view cannot be reset");
	end = measure_now();
	c->whole[round] = (end - start) * 1e6;
	c->reset[round] = (end - dirtied) * 1e6;
}

/*
 * What a suite pays for each test: dirtying the pages (with its faults) and putting them back. The reset alone is printed, too:
 * dropping pages makes it cheap, and the next test pays.
 */
static void resets(struct fixd *f, const char *name, size_t size, size_t pages)
{
	static void (*const by_hand[])(struct mapping * m) = { drop_all, scan_drop, scan_copy };
	static const char *const names[] = { "DONTNEED whole", "scan + DONTNEED", "scan + copy-back" };
	static struct cycle ours, theirs[3];
	static char what[64], against[96];
	int rounds = pages > 1000 ? 40 : ROUNDS_MAX, best = 0;
	struct fixd_options o = { .size = sizeof o, .flags = FIXD_COW };
	struct fixd_view *v;
	struct mapping mine, m;
	int fd;

	if (fixd_attach(f, name, &o, &v) < 0)
		bench_die("%s", fixd_error(f));
	mine = (struct mapping){ fixd_view_root(v), NULL, size, -1 };
	/* The same bytes in the same kind of file, with no more huge pages than fixd's own. */
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	{
		struct fixd_view *w;

		/* A second view of the image is a mapping of its own; only how it is reset is ours or not. */
		if (fixd_attach(f, name, &o, &w) < 0)
			bench_die("%s", fixd_error(f));
		m = (struct mapping){ fixd_view_root(w), NULL, size, fd };
		if (fixd_attach(f, name, NULL, &w) < 0)
			bench_die("%s", fixd_error(f));
		m.pristine = fixd_view_root(w);
	}
	for (int k = 0; k < 3; k++) {
		for (int r = -2; r < rounds; r++) {
			one_cycle(&ours, r < 0 ? 0 : r, &mine, NULL, v, pages);
			one_cycle(&theirs[k], r < 0 ? 0 : r, &m, by_hand[k], NULL, pages);
		}
		drop_all(&m);
		measure_quantile(theirs[k].whole, (size_t)rounds, 0.5);
		measure_quantile(theirs[k].reset, (size_t)rounds, 0.5);
		if (theirs[k].whole[rounds / 2] < theirs[best].whole[rounds / 2])
			best = k;
	}
	close(fd);
	snprintf(what, sizeof what, "dirty and reset %zu pages of %zu MiB", pages, size / MIB);
	snprintf(against, sizeof against, "the best by hand: %s", names[best]);
	row_add((struct row){ what, against, "us", measure_quantile(ours.whole, (size_t)rounds, 0.5),
			      measure_quantile(ours.whole, (size_t)rounds, 0.99), theirs[best].whole[rounds / 2],
			      theirs[best].whole[(int)(0.99 * (rounds - 1))], 1.1, false });
	best = 0;
	for (int k = 1; k < 3; k++) {
		if (theirs[k].reset[rounds / 2] < theirs[best].reset[rounds / 2])
			best = k;
	}
	snprintf(what, sizeof what, "  the reset alone");
	snprintf(against, sizeof against, "the cheapest alone: %s (dirtying and it: %.0f us)", names[best], theirs[best].whole[rounds / 2]);
	row_add((struct row){ what, against, "us", measure_quantile(ours.reset, (size_t)rounds, 0.5),
			      measure_quantile(ours.reset, (size_t)rounds, 0.99), theirs[best].reset[rounds / 2],
			      theirs[best].reset[(int)(0.99 * (rounds - 1))], 0, false });
	fixd_detach(v);
}

static void make_file(const char *path, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	static char buf[1 << 20];

	for (size_t i = 0; i < sizeof buf; i++)
		buf[i] = (char)(i * 2654435761u >> 13);
	for (size_t at = 0; fd >= 0 && at < size; at += sizeof buf) {
		if (write(fd, buf, sizeof buf) != sizeof buf)
			bench_die("%s: %s", path, strerror(errno));
	}
	close(fd);
}

static double load_by_sendfile(const char *path, size_t size)
{
	int in = open(path, O_RDONLY | O_CLOEXEC), out = memfd_new("bench");
	double start = measure_now(), took;
	off_t at = 0;

	while (at < (off_t)size && sendfile(out, in, &at, size - (size_t)at) > 0)
		;
	took = measure_now() - start;
	close(in);
	close(out);
	return (double)size / MIB / took;
}

/* The whole way: a client asks, a builder reads, digests and seals, the client has a view. */
static double load_by_fixd(struct bench_daemon *d, struct fixd *f, size_t size)
{
	struct fixd_view *v;
	char command[256];
	double start, took;

	snprintf(command, sizeof command, "'%s/fixctl' -s '%s' cleanup --all >/dev/null", getenv("FIXD_BUILD"), d->socket);
	if (system(command) != 0)
		bench_die("fixctl cleanup fails");
	start = measure_now();
	if (fixd_attach(f, "file", NULL, &v) < 0)
		bench_die("%s", fixd_error(f));
	took = measure_now() - start;
	fixd_detach(v);
	return (double)size / MIB / took;
}

static void loading(struct bench_daemon *d, struct fixd *f)
{
	enum { ROUNDS = 7 };
	size_t size = 1024 * MIB;
	double ours[ROUNDS], theirs[ROUNDS];

	for (int r = 0; r < ROUNDS; r++) {
		theirs[r] = load_by_sendfile(bench_path(d, "file"), size);
		ours[r] = load_by_fixd(d, f, size);
	}
	row_add((struct row){ "1 GiB file into a sealed, digested image", "sendfile into a memfd", "MiB/s",
			      measure_quantile(ours, ROUNDS, 0.5), measure_quantile(ours, ROUNDS, 0.01),
			      measure_quantile(theirs, ROUNDS, 0.5), measure_quantile(theirs, ROUNDS, 0.01), 0.8, true });
}

static double touch_all(struct fixd *f, const char *name)
{
	struct fixd_view *v;
	const volatile char *p;
	double start, took;

	if (fixd_attach(f, name, NULL, &v) < 0)
		bench_die("%s", fixd_error(f));
	p = fixd_view_data(v);
	start = measure_now();
	for (size_t i = 0; i < fixd_view_size(v); i += 4096)
		(void)p[i];
	took = measure_now() - start;
	fixd_detach(v);
	return took * 1e3;
}

static void touching(struct fixd *f)
{
	enum { ROUNDS = 9 };
	double ours[ROUNDS], theirs[ROUNDS];

	for (int r = -1; r < ROUNDS; r++) {
		double a = touch_all(f, "file"), b = touch_all(f, "small-pages");

		if (r >= 0) {
			ours[r] = a;
			theirs[r] = b;
		}
	}
	row_add((struct row){ "first touch of all pages of 1 GiB", "the same with huge-pages = no", "ms",
			      measure_quantile(ours, ROUNDS, 0.5), measure_quantile(ours, ROUNDS, 0.99),
			      measure_quantile(theirs, ROUNDS, 0.5), measure_quantile(theirs, ROUNDS, 0.99), 0, false });
}

void bench_memory(void)
{
	static const size_t sizes[] = { 64, 1024 }, pages[] = { 1, 64, 4096 };
	struct bench_daemon d = bench_daemon_start("[fixd]\nmemory-max = 6G\n[policy]\nmax-age = none\n"
						   "[fixture file]\nfile = file\n"
						   "[fixture small-pages]\nfile = file\nhuge-pages = no\n"
						   "[fixture image64]\ncommand = head -c 64M file\n"
						   "[fixture image1024]\ncommand = cat file\n",
						   -1);
	struct fixd *f;

	make_file(bench_path(&d, "file"), 1024 * MIB);
	if (fixd_open(&f, d.socket) < 0)
		bench_die("%s", fixd_error(NULL));
	for (size_t s = 0; s < 2; s++) {
		char name[16];

		snprintf(name, sizeof name, "image%zu", sizes[s]);
		for (size_t p = 0; p < 3; p++)
			resets(f, name, sizes[s] * MIB, pages[p]);
	}
	fixd_close(f);
	if (fixd_open(&f, d.socket) < 0)
		bench_die("%s", fixd_error(NULL));
	loading(&d, f);
	touching(f);
	fixd_close(f);
	bench_daemon_stop(&d);
}
