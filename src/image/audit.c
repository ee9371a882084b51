/* SPDX-License-Identifier: MIT */
#include "image/audit.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "image/symbol.h"

#include "image/relocate.h"

struct mapping {
	struct audit_range range;
	char name[128];
};

struct map_table {
	struct mapping *all;
	size_t n;
	uintptr_t lowest, highest;
};

static bool inside(const struct audit_range *r, uintptr_t v)
{
	return v >= r->start && v < r->end;
}

static bool is_known(const struct audit *a, const struct audit_range *m)
{
	const struct audit_range own = { (uintptr_t)a->base, (uintptr_t)a->base + a->size };

	if (m->start >= own.start && m->start < own.end)
		return true;
	for (size_t i = 0; i < a->n_dependencies; i++) {
		if (inside(&a->dependencies[i], m->start))
			return true;
	}
	return false;
}

/* Every mapping of this process but the image and its dependencies. */
static int read_maps(const struct audit *a, struct map_table *table)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[4400];

	if (!f)
		return -errno;
	table->lowest = UINTPTR_MAX;
	while (fgets(line, sizeof line, f)) {
		struct mapping m = { 0 }, *bigger;
		int at = 0;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %*s %*s %*s %*s %n", &m.range.start, &m.range.end, &at) < 2)
			continue;
		if (is_known(a, &m.range))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(m.name, sizeof m.name, "%s", at ? line + at : "");
		bigger = realloc(table->all, (table->n + 1) * sizeof *table->all);
		if (!bigger) {
			fclose(f);
			return -ENOMEM;
		}
		table->all = bigger;
		table->all[table->n++] = m;
		if (m.range.start < table->lowest)
			table->lowest = m.range.start;
		/* vsyscall lies far above everything and is never pointed to. */
		if (m.range.end > table->highest && m.range.end < UINTPTR_MAX / 2)
			table->highest = m.range.end;
	}
	fclose(f);
	return 0;
}

/* /proc/self/maps is sorted by address. */
static const struct mapping *find_mapping(const struct map_table *t, uintptr_t v)
{
	size_t low = 0, high = t->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (inside(&t->all[mid].range, v))
			return &t->all[mid];
		if (v < t->all[mid].range.start)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

/* What a pointer leads to. */
enum target {
	TARGET_HEAP,
	TARGET_ANONYMOUS,
	TARGET_STACK,
	TARGET_ARGUMENT,
	TARGET_THREAD,
	TARGET_CODE,
	TARGET_VIRTUAL,
	TARGET_CONSTANT,
	TARGET_VARIABLE,
	TARGET_FILE,
	TARGET_COUNT
};

#define OF_MALLOC                                                                                                        \
	"memory of malloc() must come from the arena: malloc = arena in the section, for what is made in the build and " \
	"not when the plugin is loaded, or fixd_builder_alloc()"

static const struct {
	const char *noun, *hint;
} targets[] = {
	[TARGET_HEAP] = { "the builder's heap", OF_MALLOC },
	[TARGET_ANONYMOUS] = { "the builder's heap, or memory of mmap() or of a thread",
			       OF_MALLOC "; what mmap() gave, or a thread has, other processes have not: copy it into the arena" },
	[TARGET_STACK] = { "the builder's stack", "a local variable ends with its function: copy it into the arena" },
	[TARGET_ARGUMENT] = { "the builder's arguments and environment",
			      "other processes have others: copy what is needed into the arena" },
	[TARGET_THREAD] = { "thread-local variable",
			    "every thread has its own, and other processes have others: copy what is needed into the arena" },
	[TARGET_CODE] = { "function",
			  "functions are at another address in every process: keep a number or a name, and look the function up after attaching" },
	[TARGET_VIRTUAL] = { "table of virtual functions",
			     "virtual functions: their table is at another address in every process; see \"Libraries in the arena\" in libfixd-builder(3)" },
	[TARGET_CONSTANT] = { "constant", "constants of a library are at another address in every process: copy them into the arena" },
	[TARGET_VARIABLE] = { "static variable",
			      "static variables are not in the image, and other processes have others: copy what is needed into the arena" },
	[TARGET_FILE] = { "", "what is mapped there is mapped in the builder only: copy it into the arena" },
};

/* The strings that the kernel has put behind the stack. */
static bool is_argument(uintptr_t v)
{
	uintptr_t random = getauxval(AT_RANDOM);

	return random && v >= random;
}

/* Does it lead to the address of a function, as the first word of a table of them does? */
static bool leads_to_code(uintptr_t v)
{
	struct symbol s;
	uintptr_t first;
	bool is_code;

	if (v % sizeof first)
		return false;
	memcpy(&first, (void *)v, sizeof first);
	symbol_find(first, &s);
	is_code = s.object && (s.flags & PF_X);
	symbol_deinit(&s);
	return is_code;
}

static enum target target_of(uintptr_t v, const struct symbol *s, const struct mapping *m)
{
	if (!s->object && !strncmp(m->name, "[stack", 6))
		return is_argument(v) ? TARGET_ARGUMENT : TARGET_STACK;
	if (!s->object)
		return !strcmp(m->name, "[heap]") ? TARGET_HEAP : *m->name ? TARGET_FILE : TARGET_ANONYMOUS;
	if (s->thread)
		return TARGET_THREAD;
	if (s->flags & PF_X)
		return TARGET_CODE;
	if (s->linked ? !strncmp(s->linked, "_ZTV", 4) : s->relocated && leads_to_code(v))
		return TARGET_VIRTUAL;
	return s->flags & PF_W && !s->relocated ? TARGET_VARIABLE : TARGET_CONSTANT;
}

/* What is reported: the first ones, and the first of each kind among so many. */
#define LOOKED_AT_MAX 10000

struct reporting {
	const struct audit *audit;
	size_t n, most;
	bool of[TARGET_COUNT];
};

static void report(struct reporting *r, size_t offset, uintptr_t v, const struct mapping *m)
{
	struct symbol s;
	char what[512];
	enum target t;

	symbol_find(v, &s);
	t = target_of(v, &s, m);
	if (s.object)
		snprintf(what, sizeof what, "%s %s%s%sof %s", targets[t].noun, s.name ? "'" : "", s.name ? s.name : "", s.name ? "' " : "",
			 s.object);
	else
		snprintf(what, sizeof what, "%s", t == TARGET_FILE ? m->name : targets[t].noun);
	symbol_deinit(&s);
	if (r->n <= r->most || !r->of[t])
		r->audit->stray(r->audit->arg, offset, v, what, targets[t].hint);
	r->of[t] = true;
}

/* What the digest has in the place of an address: which image, and the offset in it. To be freed; NULL: no memory. */
static struct move *address_free(const struct audit *a)
{
	struct move *moves = calloc(a->n_dependencies + 1, sizeof *moves);

	if (!moves)
		return NULL;
	moves[0] = (struct move){ (uintptr_t)a->base, a->size, UINT64_C(0xfd) << 56 };
	for (size_t i = 0; i < a->n_dependencies; i++) {
		const struct audit_range *d = &a->dependencies[i];

		moves[i + 1] = (struct move){ d->start, d->end - d->start, UINT64_C(0xfe) << 56 | (uint64_t)i << 48 };
	}
	return moves;
}

/* Addresses that may be in the image: the lowest one, and how many. */
struct span {
	uintptr_t start, size;
};

static struct span span_of(const struct move *moves, size_t n)
{
	uintptr_t start = UINTPTR_MAX, end = 0;

	for (size_t i = 0; i < n; i++) {
		if (!moves[i].size)
			continue;
		start = moves[i].from < start ? moves[i].from : start;
		end = moves[i].from + moves[i].size > end ? moves[i].from + moves[i].size : end;
	}
	return (struct span){ start, end > start ? end - start : 0 };
}

#define EACH_BYTE UINT64_C(0x0101010101010101)

static bool has_zero_byte(uint64_t v)
{
	return (v - EACH_BYTE) & ~v & EACH_BYTE << 7;
}

/* Most words end here: the sixth byte of such an address, which all of them share, is not where it would have to be. */
static bool may_be_packed(uintptr_t word, uintptr_t next, struct span s)
{
	uint64_t byte = s.start >> 40 & 0xff, pattern = byte * EACH_BYTE;

	if (s.start >> 40 != (s.start + s.size) >> 40)
		return true;
	return has_zero_byte((next ^ pattern) | UINT64_C(0xffffff) << 40) || has_zero_byte((word ^ pattern) | UINT64_MAX >> 16);
}

/* Does such an address begin inside of this word, and end in the next one? */
static bool is_packed(uintptr_t word, uintptr_t next, struct span s, const struct move *moves, size_t n_moves)
{
	bool found = false;

	if (!may_be_packed(word, next, s))
		return false;
	for (unsigned bits = 8; bits < 64; bits += 8) {
		uintptr_t v = word >> bits | next << (64 - bits);

		found |= v - s.start < s.size && relocate_find(moves, n_moves, v);
	}
	return found;
}

/* Of the words that were read, with the one behind them. */
static bool look_for_packed(const uintptr_t *words, size_t n, uintptr_t next, const struct move *moves, size_t n_moves)
{
	struct span s = span_of(moves, n_moves);
	bool found = false;

	for (size_t i = 0; i + 1 < n; i++)
		found |= is_packed(words[i], words[i + 1], s, moves, n_moves);
	return found || (n && is_packed(words[n - 1], next, s, moves, n_moves));
}

int64_t audit_run(const struct audit *a, size_t report_max, struct digest *digest)
{
	struct digest_stream *stream = digest_begin();
	struct move *moves = address_free(a);
	struct map_table maps = { 0 };
	struct reporting r = { .audit = a, .most = report_max };
	uintptr_t words[512];
	int64_t strays = 0;
	int err = stream && moves ? 0 : -ENOMEM;

	if (err == 0 && a->stray)
		err = read_maps(a, &maps);
	for (size_t at = 0; err == 0 && at < a->size; at += sizeof words) {
		size_t size = a->size - at < sizeof words ? a->size - at : sizeof words;
		size_t n = size / sizeof *words;

		memcpy(words, a->base + at, size);
		if (a->packed && !*a->packed) {
			uintptr_t next = 0;

			if (at + size + sizeof next <= a->size)
				memcpy(&next, a->base + at + size, sizeof next);
			*a->packed = look_for_packed(words, n, next, moves, a->n_dependencies + 1);
		}
		for (size_t i = 0; i < n; i++) {
			uintptr_t v = words[i];
			const struct move *known;
			const struct mapping *m;

			/* Small numbers, text and most other data end here. */
			if (v < 4096 || v >> 47)
				continue;
			known = relocate_find(moves, a->n_dependencies + 1, v);
			if (known)
				words[i] += known->to - known->from;
			if (known || v < maps.lowest || v >= maps.highest)
				continue;
			m = find_mapping(&maps, v);
			if (m && report_max && r.n++ < LOOKED_AT_MAX)
				report(&r, at + i * sizeof *words, v, m);
			strays += m != NULL;
		}
		digest_add(stream, words, size);
	}
	free(maps.all);
	free(moves);
	if (err < 0) {
		if (stream)
			digest_drop(stream);
		return err;
	}
	digest_add(stream, &a->root, sizeof a->root);
	*digest = digest_end(stream);
	return strays;
}
