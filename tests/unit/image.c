/* SPDX-License-Identifier: MIT */
/* Images: sealing, digests, places, and what a copy-on-write view undoes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "image/cow.h"
#include "image/digest.h"
#include "image/memfd.h"
#include "image/objects.h"
#include "image/region.h"
#include "image/relocate.h"
#include "image/space.h"
#include "tap.h"

#define MIB ((size_t)1 << 20)

static void sealed_means_sealed(void)
{
	_cleanup_fd_ int fd = memfd_from_bytes("test", "bytes", 5), open_fd = memfd_new("test");
	uint64_t size;
	int pipes[2];

	check_int(memfd_verify(fd, &size), 0);
	check_int(size, 5);
	check(write(fd, "x", 1) < 0 && ftruncate(fd, 1) < 0);
	check(mmap(NULL, 5, PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	check_int(memfd_verify(open_fd, &size), -EPERM);
	check_int(pipe(pipes), 0);
	check_int(memfd_verify(pipes[0], &size), -EINVAL);
	fd_close(pipes[0]);
	fd_close(pipes[1]);
}

static void not_sealed_while_mapped(void)
{
	_cleanup_fd_ int fd = memfd_new("test");
	void *p;

	check_int(ftruncate(fd, 4096), 0);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(p != MAP_FAILED);
	check_int(memfd_seal(fd), -EBUSY);
	munmap(p, 4096);
	check_int(memfd_seal(fd), 0);
}

/* Two words of a number and three places each, and one place. */
struct described {
	char bytes[200];
	struct objects_object objects[2];
	struct objects_type types[2];
	struct objects_field fields[4];
	char strings[40];
	struct objects_end end;
};

static const struct described described = {
	.objects = { { 16, 2, 0, 0 }, { 160, 1, 1, 0 } },
	.types = { { .size = 64, .name = 1, .fields = 0, .n_fields = 2 }, { .size = 16, .name = 13, .fields = 2, .n_fields = 2 } },
	.fields = { { 0, 8, 8, 19, OBJECTS_NO_TYPE }, { 16, 48, 16, 26, 1 }, { 0, 8, 8, 33, OBJECTS_NO_TYPE }, { 8, 8, 8, 0, 1 } },
	.strings = "\0struct word\0place\0number\0places\0line",
	.end = { 200, 2, 2, 4, 40, 0, OBJECTS_MAGIC },
};

static const char *name_of(const struct described *d, uint64_t offset)
{
	static char text[64];

	check_int(objects_name(d, sizeof *d, offset, text, sizeof text), strlen(text));
	return text;
}

static void objects_have_names(void)
{
	struct described bad = described;
	char few[5];

	check_string(name_of(&described, 0), "");
	check_string(name_of(&described, 16), "struct word[0].number");
	check_string(name_of(&described, 16 + 64 + 8), "struct word[1] + 0x8");
	check_string(name_of(&described, 16 + 64 + 16 + 2 * 16 + 3), "struct word[1].places[2].line");
	check_string(name_of(&described, 16 + 128), "");
	check_string(name_of(&described, 160), "place.line");
	check_int(objects_name(&described, sizeof described, 160, few, sizeof few), 10);
	check_string(few, "plac");
	/* A type that is in itself ends somewhere. */
	check(*name_of(&described, 168));
	check_int(objects_name(&described, sizeof described - 8, 16, few, sizeof few), 0);
	bad.types[0].n_fields = 5;
	check_string(name_of(&bad, 16), "");
	bad.end.n_objects = UINT64_MAX / sizeof *bad.objects;
	check_string(name_of(&bad, 160), "");
	bad = described;
	bad.end.start = UINT64_MAX - 7;
	check_string(name_of(&bad, 16), "");
	check_int(objects_name("", 0, 0, few, sizeof few), 0);
}

static void ranges_are_disjoint_and_compact(void)
{
	struct region *r = region_new(REGION_BASE, 64 * MIB);
	uint64_t a = region_alloc(r, 1), b = region_alloc(r, 2 * MIB + 1), c, d;

	check_int(a, REGION_BASE);
	check_int(b, a + 2 * MIB);
	c = region_alloc(r, 40 * MIB);
	check_int(c, b + 4 * MIB);
	region_trim(r, c, 2 * MIB);
	d = region_alloc(r, 2 * MIB);
	check_int(d, c + 2 * MIB);
	check(region_alloc(r, 64 * MIB) == 0);
	region_release(r, a);
	check(region_alloc(r, 2 * MIB) != a);
	region_free(r);
}

static void freed_ranges_are_used_again_last(void)
{
	struct region *r = region_new(REGION_BASE, 8 * MIB);
	uint64_t a = region_alloc(r, 1);

	region_release(r, a);
	for (uint64_t i = 1; i < 4; i++) {
		uint64_t at = region_alloc(r, 1);

		check_int(at, REGION_BASE + i * 2 * MIB);
		region_release(r, at);
	}
	check_int(region_alloc(r, 1), a);
	region_free(r);
}

/* Any order of all that is done with ranges, against a map of 2 MiB blocks. */
static void seeds_have_their_places(void)
{
	struct region *r = region_new(REGION_BASE, 64 * MIB), *other = region_new(REGION_BASE, 64 * MIB);
	uint64_t address = region_alloc_seeded(r, 4 * MIB, 1000), behind;

	check(address >= REGION_BASE && address + 4 * MIB <= REGION_BASE + 64 * MIB);
	check_int(region_alloc(r, 2 * MIB), REGION_BASE);
	check_int(region_alloc(other, 2 * MIB), REGION_BASE);
	check_int(region_alloc_seeded(other, 4 * MIB, 1000), (int64_t)address);
	behind = region_alloc_seeded(r, 4 * MIB, 1000);
	check(behind && behind != address);
	/* At the end of the region the first gap does. */
	check_int(region_alloc_seeded(other, 40 * MIB, 31) != 0, region_alloc(other, 40 * MIB) == 0);
	check_int(region_alloc_seeded(other, 128 * MIB, 31), 0);
	region_free(r);
	region_free(other);
}

static void ranges_never_overlap(void)
{
	enum { BLOCKS = 200 };
	struct region *r = region_new(REGION_BASE, BLOCKS * 2 * MIB);
	unsigned owner[BLOCKS] = { 0 }, last = 0;
	uint64_t state = 88172645463325252ULL;

	for (int step = 0; step < 20000; step++) {
		unsigned n, at, k;
		uint64_t start;

		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		n = 1 + state % 7;
		at = (unsigned)(state >> 8) % BLOCKS;
		if (state >> 60 < 6) {
			start = region_alloc(r, n * 2 * MIB);
			at = (unsigned)((start - REGION_BASE) / (2 * MIB));
		} else if (state >> 60 < 9) {
			bool is_free = at + n <= BLOCKS;

			for (k = at; is_free && k < at + n; k++)
				is_free = !owner[k];
			if (at + n > BLOCKS)
				continue;
			start = region_claim(r, REGION_BASE + at * 2 * MIB, n * 2 * MIB) ? 1 : 0;
			check_int(start, is_free);
		} else {
			region_release(r, REGION_BASE + at * 2 * MIB);
			/* Only that of a whole range counts. */
			if (!owner[at] || (at > 0 && owner[at - 1] == owner[at]))
				continue;
			for (k = at, n = owner[at]; k < BLOCKS && owner[k] == n; k++)
				owner[k] = 0;
			continue;
		}
		if (!start)
			continue;
		last++;
		for (k = at; k < at + n; k++) {
			check(k < BLOCKS && !owner[k]);
			owner[k] = last;
		}
	}
	region_free(r);
}

static void pointers_follow_what_moves(void)
{
	const struct move moves[] = { { 0x7e8000000000, 0x3000, 0x10000 },
				      { 0x7e8000200000, 0x200000, 0x7e8000200000 },
				      { 0x7e8000400000, 8, 0x50000 } };
	uint64_t words[] = {
		0x7e8000000000, 0x7e8000002fff, /* within */
		0x7e8000003000, 0x7e8000003001, /* the end, and behind it */
		0x7e8000200010,			/* that stays */
		0x7e8000400000,			/* the end of one and the start of the next */
		0x7e8000400008, 42,
		UINT64_MAX,	0,
	};
	const uint64_t right[] = { 0x10000, 0x12fff, 0x13000, 0x7e8000003001, 0x7e8000200010, 0x50000, 0x50008, 42, UINT64_MAX, 0 };
	_cleanup_fd_ int fd = memfd_from_bytes("test", words, sizeof words), copy = relocate_copy(fd, sizeof words, moves, 3);
	uint64_t copied[sizeof words / 8], size;

	check_int(relocate_words(words, sizeof words, moves, 3), 5);
	check(!memcmp(words, right, sizeof words));
	check_int(memfd_verify(copy, &size), 0);
	check_int(size, sizeof words);
	check_int(pread(copy, copied, sizeof copied, 0), (int64_t)sizeof copied);
	check(!memcmp(copied, right, sizeof right));
	/* The last bytes of an image may be less than a word. */
	check_int(relocate_words(words, 7, moves, 3), 0);
	check_int(relocate_words(words, sizeof words, moves, 0), 0);
}

static void digest_is_xxh3(void)
{
	/* `printf abc | xxhsum -H2` */
	char hex[DIGEST_HEX_SIZE];
	struct digest_stream *s = digest_begin();

	check_string(digest_format(digest_bytes("abc", 3), hex), "06b05ab6733a618578af5f94892f3950");
	digest_add(s, "a", 1);
	digest_add(s, "bc", 2);
	check(digest_equal(digest_end(s), digest_bytes("abc", 3)));
}

static struct {
	uint64_t asked, most;
	int calls;
} budget;

static int grant(void *arg, uint64_t total)
{
	(void)arg;
	budget.calls++;
	if (total > budget.most)
		return -EDQUOT;
	budget.asked = total;
	return 0;
}

static void space_keeps_to_its_budget(void)
{
	struct space s;
	int fd = -1, err;
	char *p;

	check_int(space_init(&s, "test", REGION_BASE, 64 * MIB, 40 * MIB, HUGE_PAGES_AUTO), 0);
	budget.most = 20 * MIB;
	space_set_budget(&s, grant, NULL);
	p = space_extend(&s, 10 * MIB, &err);
	check(p == (char *)REGION_BASE && budget.asked >= 10 * MIB && budget.asked <= 20 * MIB);
	memset(p, 7, 10 * MIB);
	check(!space_extend(&s, 11 * MIB, &err) && err == -EDQUOT);
	p = space_extend(&s, 10 * MIB, &err);
	check(p && p[0] == 0 && budget.asked == 20 * MIB);
	check(!space_extend(&s, 1, &err) && err == -EDQUOT);
	space_give_back(&s, 1);
	check_int(space_seal(&s, &fd), 0);
	check_int(lseek(fd, 0, SEEK_END), 20 * MIB - 1);
	fd_close(fd);
	space_deinit(&s);
}

static void space_limit_and_place(void)
{
	struct space s, other;
	int err;

	check_int(space_init(&s, "test", REGION_BASE, 4 * MIB, 4 * MIB, HUGE_PAGES_NO), 0);
	check_int(space_init(&other, "test", REGION_BASE, 4 * MIB, 4 * MIB, HUGE_PAGES_NO), -EEXIST);
	check(space_extend(&s, 4 * MIB, &err));
	check(!space_extend(&s, 1, &err) && err == -EDQUOT);
	space_deinit(&s);
}

/* A copy-on-write mapping of an image of `pages` pages that count up. */
static struct cow cow_of(size_t size)
{
	char *bytes = xcalloc(1, size);
	struct cow c;
	int fd;
	void *p;

	for (size_t i = 0; i < size; i++)
		bytes[i] = (char)(i / 4096 + 1);
	fd = memfd_from_bytes("test", bytes, size);
	free(bytes);
	check(fd >= 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	check(p != MAP_FAILED);
	check_int(cow_init(&c, p, size, fd), 0);
	fd_close(fd);
	return c;
}

static void drop(struct cow *c)
{
	munmap(c->base, c->size);
	cow_deinit(c);
}

static struct {
	size_t n, bytes;
	const char *first;
} changes;

static void note(void *arg, const char *start, size_t length)
{
	(void)arg;
	if (changes.n++ == 0)
		changes.first = start;
	changes.bytes += length;
}

static int64_t count_changes(struct cow *c)
{
	memset(&changes, 0, sizeof changes);
	return cow_changes(c, note, NULL);
}

static void reset_puts_everything_back(void)
{
	static const size_t pages[] = { 1, 5, 300, 600, 1023 };
	struct cow c = cow_of(1024 * 4096 - 100);

	check_int(count_changes(&c), 0);
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < ELEMENTSOF(pages); i++)
			c.base[pages[i] * 4096 + 7] = 'x';
		check_int(count_changes(&c), ELEMENTSOF(pages));
		check(changes.first == c.base + 4096 + 7 && changes.bytes == ELEMENTSOF(pages));
		check_int(cow_reset(&c), ELEMENTSOF(pages));
		check_int(count_changes(&c), 0);
		for (size_t i = 0; i < 1024 * 4096 - 100; i++)
			check(c.base[i] == (char)(i / 4096 + 1));
		check_int(cow_reset(&c), 0);
	}
	drop(&c);
}

static void changes_are_exact(void)
{
	struct cow c = cow_of(16 * 4096);

	memset(c.base + 4090, 'x', 12); /* over a page's end: one run */
	c.base[3 * 4096] = 'x';
	c.base[3 * 4096 + 2] = 'x';
	c.base[5 * 4096] = c.base[5 * 4096]; /* written with what it held */
	check_int(count_changes(&c), 3);
	check_int(changes.bytes, 14);
	check_int(cow_reset(&c), 3);
	drop(&c);
}

static void reset_of_many_pages(void)
{
	size_t pages = 40000; /* more than are kept */
	struct cow c = cow_of(pages * 4096);

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < pages; i++)
			c.base[i * 4096] = (char)(i + 2);
		check(cow_reset(&c) >= (int64_t)pages);
		for (size_t i = 0; i < pages; i++)
			check(c.base[i * 4096] == (char)(i + 1));
	}
	check_int(count_changes(&c), 0);
	drop(&c);
}

static void reset_in_a_forked_child(void)
{
	struct cow c = cow_of(8 * 4096);
	int status;
	pid_t pid;

	c.base[0] = 'p';
	check_int(cow_reset(&c), 1);
	c.base[4096] = 'p';
	pid = fork();
	if (pid == 0) {
		c.base[2 * 4096] = 'c';
		_exit(cow_reset(&c) == 2 && c.base[4096] == 2 && c.base[2 * 4096] == 3 ? 0 : 1);
	}
	check(waitpid(pid, &status, 0) == pid && status == 0);
	check(c.base[4096] == 'p' && c.base[2 * 4096] == 3);
	check_int(cow_reset(&c), 1);
	drop(&c);
}

/* What has got the number of a descriptor that the program closed is neither believed nor closed. */
static void reset_after_descriptors_were_closed(void)
{
	struct cow c = cow_of(4 * 4096);
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), taken;

	c.base[0] = 'x';
	check_int(cow_reset(&c), 1);
	taken = c.pagemap;
	check(zero >= 0 && dup2(zero, taken) == taken);
	c.base[4096] = 'x';
	check_int(cow_reset(&c), 1);
	check(c.base[4096] == 2 && c.pagemap != taken);
	check(close(taken) == 0 && close(c.pagemap) == 0);
	c.base[4096] = 'x';
	check_int(cow_reset(&c), 1);
	check_int(dup2(zero, c.pagemap), c.pagemap);
	taken = c.pagemap;
	drop(&c);
	check(close(taken) == 0 && close(zero) == 0);
}

/* All of it again, by /proc/self/pagemap. */
#define WITHOUT_SCAN(function)                  \
	static void function##_by_pagemap(void) \
	{                                       \
		cow_without_scan = true;        \
		function();                     \
		cow_without_scan = false;       \
	}
WITHOUT_SCAN(reset_puts_everything_back)
WITHOUT_SCAN(changes_are_exact)
WITHOUT_SCAN(reset_of_many_pages)
WITHOUT_SCAN(reset_in_a_forked_child)
WITHOUT_SCAN(reset_after_descriptors_were_closed)

static const struct tap_test tests[] = {
	TAP_TEST(sealed_means_sealed),
	TAP_TEST(not_sealed_while_mapped),
	TAP_TEST(objects_have_names),
	TAP_TEST(ranges_are_disjoint_and_compact),
	TAP_TEST(freed_ranges_are_used_again_last),
	TAP_TEST(seeds_have_their_places),
	TAP_TEST(ranges_never_overlap),
	TAP_TEST(pointers_follow_what_moves),
	TAP_TEST(digest_is_xxh3),
	TAP_TEST(space_keeps_to_its_budget),
	TAP_TEST(space_limit_and_place),
	TAP_TEST(reset_puts_everything_back),
	TAP_TEST(changes_are_exact),
	TAP_TEST(reset_of_many_pages),
	TAP_TEST(reset_in_a_forked_child),
	TAP_TEST(reset_after_descriptors_were_closed),
	TAP_TEST(reset_puts_everything_back_by_pagemap),
	TAP_TEST(changes_are_exact_by_pagemap),
	TAP_TEST(reset_of_many_pages_by_pagemap),
	TAP_TEST(reset_in_a_forked_child_by_pagemap),
	TAP_TEST(reset_after_descriptors_were_closed_by_pagemap),
};
TAP_MAIN(tests)
