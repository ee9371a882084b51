/* SPDX-License-Identifier: MIT */
/*
 * What comes from outside, damaged in many ways: the ini file, a job, the records of a report. Nothing may crash, and what is
 * refused must be refused with words. The same inputs every time; FUZZ_ROUNDS=N for more of them, under a sanitizer.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/text.h"
#include "config/config.h"
#include "image/memfd.h"
#include "tap.h"
#include "wire/job.h"
#include "wire/record.h"

static uint64_t state;

/* xorshift64 (Marsaglia, Xorshift RNGs, 2003) */
static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static size_t below(size_t n)
{
	return n ? (size_t)(next() % n) : 0;
}

static size_t rounds(size_t usual)
{
	const char *s = getenv("FUZZ_ROUNDS");

	return s ? (size_t)strtoul(s, NULL, 10) : usual;
}

/* A few changes of a copy: bytes, pieces moved, pieces doubled, the end cut off. */
static char *damage(const char *data, size_t size, size_t *out)
{
	char *p = xcalloc(1, 2 * size + 1);
	size_t n = size;

	memcpy(p, data, size);
	for (size_t k = below(6) + 1; k > 0; k--) {
		size_t at = below(n), length = below(n - at < 40 ? n - at : 40);

		switch (below(5)) {
		case 0:
			p[at] = (char)next();
			break;
		case 1:
			p[at] ^= (char)(1 << below(8));
			break;
		case 2:
			memmove(p + below(n - length), p + at, length);
			break;
		case 3:
			if (n + length > 2 * size)
				break;
			memmove(p + at + length, p + at, n - at);
			n += length;
			break;
		default:
			n = below(4) ? n : below(n);
		}
	}
	*out = n;
	return p;
}

static const char ini[] = "[fixd]\njobs = 3\nmemory-max = 2G\naddress-base = 0x7e9000000000\nio = epoll\n"
			  "[policy]\nmax-age = 10m\nwatch = a, b/*.c\n  c\nwatch-by = content\n"
			  "[fixture a]\ndoc = one\n  two\nparams = 1, 2\ncommand = x\n  y\nenv = A, B\n"
			  "[fixture b]\nscope = module\nfile = /dev/null\ndepends = a[1], a[2]\nhuge-pages = no\n"
			  "[fixture c]\nscope = class\nplugin = x.so:f\ndepends = b\nmalloc = arena\nstray-pointers = warn\n";

static void config_files(void)
{
	size_t accepted = 0, n = rounds(4000);

	state = 88172645463325252ULL;
	for (size_t k = 0; k < n; k++) {
		_cleanup_text_ struct text problems = { 0 };
		struct config *c = NULL;
		size_t size;
		_cleanup_free_ char *bytes = damage(ini, sizeof ini - 1, &size);
		_cleanup_fd_ int fd = memfd_from_bytes("fuzz", bytes, size);
		char path[32];
		int r;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		r = config_load(path, &c, &problems);
		if (r == 0) {
			for (size_t f = 0; f < c->n_fixtures; f++)
				free(config_describe(c->fixtures[f]));
			accepted++;
			config_free(c);
		} else {
			check(problems.size > 0 && strstr(problems.data, path));
		}
	}
	/* Damage to a comment or a doc is none: if nothing passes the test tests nothing. */
	check(accepted > 0 && accepted < n);
}

static void jobs(void)
{
	char *env[] = { (char *)"A=1", NULL };
	struct job_dependency dep = { .name = (char *)"d", .path = (char *)"/p", .size = 5, .direct = true };
	struct job j = { .kind = JOB_PLUGIN,
			 .name = (char *)"n",
			 .source = (char *)"s",
			 .root = (char *)"/",
			 .env = env,
			 .inputs = env,
			 .dependencies = &dep,
			 .n_dependencies = 1 };
	_cleanup_text_ struct text t = { 0 };
	size_t n = rounds(50000);

	job_encode(&j, &t);
	state = 88172645463325252ULL;
	for (size_t k = 0; k < n; k++) {
		struct job back;
		size_t size;
		_cleanup_free_ char *bytes = damage(t.data, t.size, &size);
		_cleanup_free_ char *exact = xmemdup(bytes, size); /* so that a sanitizer sees its end */

		if (job_decode(exact, size, &back) == 0)
			job_deinit(&back);
	}
}

static size_t walk(struct record_reader in, int depth)
{
	struct record r;
	bool bad = false;
	size_t n = 0;

	while (record_next(&in, &r, &bad)) {
		n += 1 + r.size;
		if (depth < 20 && (r.kind == RECORD_OBJECT || r.kind == RECORD_LIST))
			n += walk(record_inside(&r), depth + 1);
	}
	return n;
}

static void reports(void)
{
	_cleanup_text_ struct text t = { 0 };
	size_t n = rounds(50000), seen = 0;

	for (uint16_t k = 0; k < 4; k++) {
		size_t mark = record_begin(&t, k, RECORD_OBJECT), list = record_begin(&t, k, RECORD_LIST);

		record_string(&t, k, "some text");
		record_end(&t, list);
		record_u64(&t, k, 7);
		record_end(&t, mark);
	}
	state = 88172645463325252ULL;
	for (size_t k = 0; k < n; k++) {
		size_t size;
		_cleanup_free_ char *bytes = damage(t.data, t.size, &size);
		_cleanup_free_ char *exact = xmemdup(bytes, size);

		seen += walk((struct record_reader){ exact, size }, 0);
	}
	check(seen > n);
}

static const struct tap_test tests[] = { TAP_TEST(config_files), TAP_TEST(jobs), TAP_TEST(reports) };
TAP_MAIN(tests)
