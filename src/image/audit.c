/* SPDX-License-Identifier: MIT */
#include "image/audit.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
enum target { TARGET_HEAP, TARGET_STACK, TARGET_CODE, TARGET_VIRTUAL, TARGET_CONSTANT, TARGET_VARIABLE, TARGET_FILE };

static const struct {
	const char *noun, *hint;
} targets[] = {
	[TARGET_HEAP] = { "the builder's heap",
			  "memory of malloc() must come from the arena: malloc = arena in the section, or fixd_builder_alloc()" },
	[TARGET_STACK] = { "the builder's stack", "a local variable ends with its function: copy it into the arena" },
	[TARGET_CODE] = { "function", "functions are at another address in every process: keep a number or a name, and look the function up after attaching" },
	[TARGET_VIRTUAL] = { "table of virtual functions",
			     "virtual functions: their table is at another address in every process; see \"Libraries in the arena\" in libfixd-builder(3)" },
	[TARGET_CONSTANT] = { "constant", "constants of a library are at another address in every process: copy them into the arena" },
	[TARGET_VARIABLE] = { "static variable", "static variables are not in the image, and other processes have others: copy what is needed into the arena" },
	[TARGET_FILE] = { "", "what is mapped there is mapped in the builder only: copy it into the arena" },
};

/* The segment of a program or library that an address is in: also the part without bytes in its file, which no map names. */
struct segment {
	uintptr_t address;
	const char *object;
	unsigned flags; /* PF_... */
	bool found;
};

static int find_segment(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct segment *s = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum && !s->found; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		const struct audit_range r = { info->dlpi_addr + p->p_vaddr, info->dlpi_addr + p->p_vaddr + p->p_memsz };

		if (p->p_type != PT_LOAD || !inside(&r, s->address))
			continue;
		s->found = true;
		s->flags = p->p_flags;
		s->object = *info->dlpi_name ? info->dlpi_name : "the builder";
	}
	return s->found;
}

/* The name of what an address is inside of, as its author wrote it, to be freed, or NULL; *symbol: as the linker has it. */
static char *name_at(uintptr_t v, const char **symbol)
{
	char *(*demangle)(const char *, char *, size_t *, int *) =
		(char *(*)(const char *, char *, size_t *, int *))dlsym(RTLD_DEFAULT, "__cxa_demangle");
	const ElfW(Sym) *entry = NULL;
	char *name;
	Dl_info info;
	int status;

	*symbol = "";
	if (!dladdr1((void *)v, &info, (void **)&entry, RTLD_DL_SYMENT) || !info.dli_sname || !entry ||
	    v - (uintptr_t)info.dli_saddr >= entry->st_size)
		return NULL;
	*symbol = info.dli_sname;
	name = demangle ? demangle(info.dli_sname, NULL, NULL, &status) : NULL;
	return name ? name : strdup(info.dli_sname);
}

static enum target target_of(const struct segment *s, const char *symbol, const struct mapping *m)
{
	if (!s->found)
		return !strncmp(m->name, "[stack", 6) ? TARGET_STACK : !*m->name || !strcmp(m->name, "[heap]") ? TARGET_HEAP : TARGET_FILE;
	if (s->flags & PF_X)
		return TARGET_CODE;
	if (!strncmp(symbol, "_ZTV", 4))
		return TARGET_VIRTUAL;
	return s->flags & PF_W ? TARGET_VARIABLE : TARGET_CONSTANT;
}

static void report(const struct audit *a, size_t offset, uintptr_t v, const struct mapping *m)
{
	struct segment s = { .address = v };
	const char *symbol;
	char what[512], *name = name_at(v, &symbol);
	enum target t;

	dl_iterate_phdr(find_segment, &s);
	t = target_of(&s, symbol, m);
	if (s.found)
		snprintf(what, sizeof what, "%s %s%s%sof %s", targets[t].noun, name ? "'" : "", name ? name : "", name ? "' " : "", s.object);
	else
		snprintf(what, sizeof what, "%s", t == TARGET_FILE ? m->name : targets[t].noun);
	free(name);
	a->stray(a->arg, offset, v, what, targets[t].hint);
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

int64_t audit_run(const struct audit *a, size_t report_max, struct digest *digest)
{
	struct digest_stream *stream = digest_begin();
	struct move *moves = address_free(a);
	struct map_table maps = { 0 };
	uintptr_t words[512];
	int64_t strays = 0;
	int r = stream && moves ? 0 : -ENOMEM;

	if (r == 0 && a->stray)
		r = read_maps(a, &maps);
	for (size_t at = 0; r == 0 && at < a->size; at += sizeof words) {
		size_t size = a->size - at < sizeof words ? a->size - at : sizeof words;
		size_t n = size / sizeof *words;

		memcpy(words, a->base + at, size);
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
			if (m && (size_t)strays++ < report_max)
				report(a, at + i * sizeof *words, v, m);
		}
		digest_add(stream, words, size);
	}
	free(maps.all);
	free(moves);
	if (r < 0) {
		if (stream)
			digest_drop(stream);
		return r;
	}
	digest_add(stream, &a->root, sizeof a->root);
	*digest = digest_end(stream);
	return strays;
}
