/* SPDX-License-Identifier: MIT */
/* Builds in the arena: where objects lie, what the audit finds in them, how far they may grow. */
#include <errno.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "image/arena.h"
#include "image/audit.h"
#include "image/region.h"
#include "image/space.h"
#include "tap.h"

#define MIB ((size_t)1 << 20)

/* As in the helper: freed memory is overwritten. */
extern const char *malloc_conf __attribute__((visibility("default")));
const char *malloc_conf = "junk:free,retain:false,narenas:1";

static struct space space;
static struct arena *arena;
static struct arena *all[64]; /* an arena lives until its process ends */

static void begin(uint64_t address)
{
	check_int(space_init(&space, "test", address, 64 * MIB, 64 * MIB, HUGE_PAGES_NO), 0);
	check_int(arena_new(&arena, &space), 0);
	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		if (!all[i]) {
			all[i] = arena;
			break;
		}
	}
}

static bool inside(const void *p)
{
	return (const char *)p >= space.base && (const char *)p < space.base + space.used;
}

static void objects_lie_in_the_image(void)
{
	begin(REGION_BASE);
	for (size_t size = 1; size < 3 * MIB; size = size * 3 / 2 + 1) {
		char *p = arena_alloc(arena, size, 0);

		check(p && inside(p) && inside(p + size - 1));
		for (size_t i = 0; i < size; i += 97)
			check(p[i] == 0);
		memset(p, 0xff, size);
		if (size % 2)
			arena_free(arena, p);
	}
	for (int i = 0; i < 1000; i++) {
		void *p = malloc(100);

		check(!inside(p));
		free(p);
	}
	space_deinit(&space);
}

static void memory_is_zero_again_and_aligned(void)
{
	begin(REGION_BASE);
	for (int round = 0; round < 100; round++) {
		char *p = arena_alloc(arena, 100, 64);

		check(p && (uintptr_t)p % 64 == 0);
		for (int i = 0; i < 100; i++)
			check(p[i] == 0);
		memset(p, round + 1, 100);
		arena_free(arena, p);
	}
	for (size_t align = 1; align <= 65536; align *= 2)
		check((uintptr_t)arena_alloc(arena, 10, align) % align == 0);
	space_deinit(&space);
}

static void reallocation_keeps_and_zeroes(void)
{
	char *p;

	begin(REGION_BASE);
	p = arena_alloc(arena, 10, 0);
	memset(p, 'a', 10);
	for (size_t size = 10; size < MIB; size *= 2) {
		p = arena_realloc(arena, p, size * 2);
		check(p && inside(p));
		for (size_t i = 0; i < size * 2; i++)
			check(p[i] == (i < 10 ? 'a' : 0));
	}
	p = arena_alloc(arena, 112, 0);
	memset(p, 0xff, 112);
	p = arena_realloc(arena, arena_realloc(arena, p, 100), 112);
	check(p[99] == (char)0xff && p[100] == 0 && p[111] == 0);
	p = arena_realloc(arena, arena_realloc(arena, p, 0), 8);
	check(p && p[0] == 0);
	space_deinit(&space);
}

/* What cannot move to a smaller place stays in the larger one. */
static void reallocation_to_less_does_not_fail(void)
{
	char *p;

	begin(REGION_BASE);
	p = arena_alloc(arena, MIB, 0);
	memset(p, 'x', MIB);
	while (arena_alloc(arena, 64, 0))
		;
	while (arena_alloc(arena, 20000, 0))
		;
	p = arena_realloc(arena, p, 10000);
	check(p && p[0] == 'x' && p[9999] == 'x');
	space_deinit(&space);
}

/* Neither by shrinking in place nor by moving. */
static void reallocation_leaves_nothing_behind(void)
{
	static const size_t sizes[][2] = {
		{ 512, 4096 }, { 64 << 10, 32 << 10 }, { 1 << 20, 20 << 10 }, { 1 << 20, 10 }, { 200 << 10, 3 << 20 }
	};

	for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
		size_t from = sizes[k][0], to = sizes[k][1];
		char *p, *q;

		begin(REGION_BASE);
		p = arena_alloc(arena, from, 0);
		memset(p, 'x', from);
		q = arena_realloc(arena, p, to);
		check(q != NULL);
		for (size_t i = 0; i < (from < to ? from : to); i++)
			check(q[i] == 'x');
		memset(q, 0, to);
		check(memchr(space.base, 'x', space.used) == NULL);
		space_deinit(&space);
	}
}

static void freed_neighbours_become_one(void)
{
	char *p[64];

	begin(REGION_BASE);
	for (size_t i = 0; i < 56; i++)
		check((p[i] = arena_alloc(arena, MIB, 0)) != NULL);
	for (size_t i = 0; i < 56; i++)
		arena_free(arena, p[i]);
	check(arena_alloc(arena, 50 * MIB, 0) != NULL);
	check_int(arena_error(arena), 0);
	space_deinit(&space);
}

static void a_full_space_says_so(void)
{
	size_t n = 0;

	begin(REGION_BASE);
	while (arena_alloc(arena, 100000, 0))
		n++;
	check(n > 64 * MIB / 100000 * 8 / 10);
	check_int(arena_error(arena), -EDQUOT);
	space_deinit(&space);
}

static void malloc_goes_into_the_arena_between_enter_and_leave(void)
{
	char *in, *out;

#ifdef __SANITIZE_ADDRESS__
	tap_skip("the sanitizer brings its own malloc");
#endif
#ifdef __SANITIZE_THREAD__
	tap_skip("the sanitizer brings its own malloc");
#endif
	begin(REGION_BASE);
	check_int(arena_enter(arena), 0);
	in = strdup("inside");
	check_int(arena_leave(arena), 0);
	out = strdup("outside");
	check(inside(in) && !inside(out));
	free(out);
	space_deinit(&space);
}

struct node {
	struct node *next;
	const char *name;
};

static struct digest build(uint64_t address, const void *stray, int64_t expected, struct audit_range *dep)
{
	struct digest digest;
	struct audit a;
	struct node *head = NULL;

	begin(address);
	for (int i = 0; i < 10000; i++) {
		struct node *n = arena_alloc(arena, sizeof *n, 0);
		char *name = arena_alloc(arena, 20, 0);

		snprintf(name, 20, "number %d", i);
		n->next = head;
		n->name = dep && i == 7 ? (const char *)dep->start + 16 : name;
		head = n;
		if (i % 3 == 0)
			arena_free(arena, arena_alloc(arena, 50, 0));
	}
	if (stray)
		head->name = stray;
	a = (struct audit){ .base = space.base, .size = space.used, .dependencies = dep, .n_dependencies = dep ? 1 : 0 };
	if (expected >= 0)
		a.stray = (audit_stray_fn)(void (*)(void))abort;
	check_int(audit_run(&a, 0, &digest), expected > 0 ? expected : 0);
	space_deinit(&space);
	return digest;
}

/* At each offset within a word, also over the end of what is looked at at once. */
static void addresses_in_packed_structs_are_seen(void)
{
	for (size_t at = 4096 - 16; at < 4096 + 16; at++) {
		struct digest digest;
		bool packed = false;
		uintptr_t address;
		struct audit a;
		char *bytes;

		begin(REGION_BASE + 512 * MIB);
		bytes = arena_alloc(arena, 8192, 4096);
		memset(bytes, 0x55, 8192);
		a = (struct audit){ .base = space.base, .size = space.used, .packed = &packed };
		check_int(audit_run(&a, 0, &digest), 0);
		check(!packed);
		address = (uintptr_t)bytes + 100;
		memcpy(bytes + at, &address, sizeof address);
		check_int(audit_run(&a, 0, &digest), 0);
		check_int(packed, at % sizeof address != 0);
		space_deinit(&space);
	}
}

static void digest_does_not_depend_on_the_place(void)
{
	struct audit_range here = { REGION_BASE + 512 * MIB, REGION_BASE + 513 * MIB };
	struct audit_range there = { REGION_BASE + 768 * MIB, REGION_BASE + 769 * MIB };
	struct digest a = build(REGION_BASE, NULL, 0, NULL), b = build(REGION_BASE + 256 * MIB, NULL, 0, NULL);
	struct digest c = build(REGION_BASE, NULL, 0, &here), d = build(REGION_BASE + 256 * MIB, NULL, 0, &there);

	check(digest_equal(a, b));
	check(digest_equal(c, d) && !digest_equal(a, c));
}

static int stray_count;
static size_t stray_offset;
static char stray_what[256];

static void on_stray(void *arg, size_t offset, uintptr_t value, const char *what, const char *hint)
{
	(void)arg, (void)value, (void)hint;
	stray_count++;
	stray_offset = offset;
	snprintf(stray_what, sizeof stray_what, "%s", what);
}

static void stray_pointers_are_found(void)
{
	static int data;
	int on_stack = 0;
	void *heap = malloc(10);
	const void *const strays[] = { heap, &on_stack, &data, "literal", (const void *)(uintptr_t)tap_open_fds };

	for (size_t i = 0; i < ELEMENTSOF(strays); i++) {
		struct digest digest;
		const void **words;
		struct audit a;

		begin(REGION_BASE);
		words = arena_alloc(arena, 64, 0);
		words[3] = strays[i];
		words[4] = words;
		a = (struct audit){ .base = space.base, .size = space.used, .stray = on_stray };
		stray_count = 0;
		check_int(audit_run(&a, 10, &digest), 1);
		check_int(stray_count, 1);
		check_int(stray_offset, (char *)&words[3] - space.base);
		check(*stray_what);
		space_deinit(&space);
	}
	free(heap);
}

static const struct tap_test tests[] = {
	TAP_TEST(objects_lie_in_the_image),
	TAP_TEST(memory_is_zero_again_and_aligned),
	TAP_TEST(reallocation_keeps_and_zeroes),
	TAP_TEST(reallocation_leaves_nothing_behind),
	TAP_TEST(reallocation_to_less_does_not_fail),
	TAP_TEST(freed_neighbours_become_one),
	TAP_TEST(a_full_space_says_so),
	TAP_TEST(malloc_goes_into_the_arena_between_enter_and_leave),
	TAP_TEST(addresses_in_packed_structs_are_seen),
	TAP_TEST(digest_does_not_depend_on_the_place),
	TAP_TEST(stray_pointers_are_found),
};
TAP_MAIN(tests)
