/* SPDX-License-Identifier: MIT */
#include "builder/types.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define TYPES_MAX 4096
#define DEPTH_MAX 8 /* of names in names */

#define LIBDW(X)                                                                                  \
	X(dwfl_begin, void *, (const struct callbacks *))                                         \
	X(dwfl_end, void, (void *))                                                               \
	X(dwfl_report_offline, void *, (void *, const char *, const char *, int))                 \
	X(dwfl_report_end, int, (void *, void *, void *))                                         \
	X(dwfl_nextcu, struct die *, (void *, struct die *, uint64_t *))                          \
	X(dwarf_child, int, (struct die *, struct die *))                                         \
	X(dwarf_siblingof, int, (struct die *, struct die *))                                     \
	X(dwarf_tag, int, (struct die *))                                                         \
	X(dwarf_diename, const char *, (struct die *))                                            \
	X(dwarf_attr_integrate, struct attribute *, (struct die *, unsigned, struct attribute *)) \
	X(dwarf_formudata, int, (struct attribute *, uint64_t *))                                 \
	X(dwarf_formref_die, struct die *, (struct attribute *, struct die *))                    \
	X(dwarf_peel_type, int, (struct die *, struct die *))                                     \
	X(dwarf_aggregate_size, int, (struct die *, uint64_t *))                                  \
	X(dwfl_build_id_find_elf, int, (void))                                                    \
	X(dwfl_standard_find_debuginfo, int, (void))                                              \
	X(dwfl_build_id_find_debuginfo, int, (void))                                              \
	X(dwfl_offline_section_address, int, (void))
#include "base/libdw.h"

static bool types_number_of(struct die *d, unsigned attribute, uint64_t *n)
{
	struct attribute a;

	return dw.dwarf_attr_integrate(d, attribute, &a) && dw.dwarf_formudata(&a, n) == 0;
}

static bool has(struct die *d, unsigned attribute)
{
	struct attribute a;

	return dw.dwarf_attr_integrate(d, attribute, &a) != NULL;
}

/* What it is behind its typedefs, const and volatile. */
static bool type_of(struct die *d, struct die *out)
{
	struct attribute a;
	struct die type;

	return dw.dwarf_attr_integrate(d, AT_TYPE, &a) && dw.dwarf_formref_die(&a, &type) && dw.dwarf_peel_type(&type, out) == 0;
}

static bool is_aggregate(struct die *d)
{
	int tag = dw.dwarf_tag(d);

	return tag == TAG_STRUCTURE || tag == TAG_CLASS || tag == TAG_UNION;
}

static uint32_t add_string(struct types *t, const char *s)
{
	size_t at = t->strings.size;

	text_add(&t->strings, s, strlen(s) + 1);
	return (uint32_t)at;
}

static size_t add_type(struct types *t, const char *name, uint64_t size, const void *die)
{
	t->types = xrealloc(t->types, (t->n + 1) * sizeof *t->types);
	t->dies = xrealloc(t->dies, (t->n + 1) * sizeof *t->dies);
	t->types[t->n] = (struct objects_type){ .size = size, .name = add_string(t, name) };
	t->dies[t->n] = die;
	return t->n++;
}

void types_add(struct types *t, const char *name, uint64_t size)
{
	add_type(t, name, size, NULL);
}

static void add_fields(struct types *t, size_t number, struct die *type);

/* The type of what is in others, with its fields. */
static uint32_t inner_type(struct types *t, struct die *type, uint64_t size)
{
	const char *name = dw.dwarf_diename(type);
	size_t number;

	for (size_t i = 0; i < t->n; i++) {
		if (t->dies[i] == type->address)
			return (uint32_t)i;
	}
	if (t->n >= TYPES_MAX)
		return OBJECTS_NO_TYPE;
	number = add_type(t, name ? name : "", size, type->address);
	add_fields(t, number, type);
	return (uint32_t)number;
}

/* Where it is. False: that depends on the object (a virtual base class), or it is not in it (a static member). */
static bool place_of(struct die *member, uint64_t *offset)
{
	*offset = 0;
	if (has(member, AT_EXTERNAL) || has(member, AT_DECLARATION))
		return false;
	if (types_number_of(member, AT_DATA_BIT_OFFSET, offset)) {
		*offset /= 8;
		return true;
	}
	return !has(member, AT_DATA_MEMBER_LOCATION) || types_number_of(member, AT_DATA_MEMBER_LOCATION, offset);
}

static bool describe_member(struct types *t, struct die *member, struct objects_field *f)
{
	int tag = dw.dwarf_tag(member);
	struct die type, element;
	const char *name;

	*f = (struct objects_field){ .type = OBJECTS_NO_TYPE };
	if ((tag != TAG_MEMBER && tag != TAG_INHERITANCE) || !place_of(member, &f->offset) || !type_of(member, &type) ||
	    dw.dwarf_aggregate_size(&type, &f->size) != 0)
		return false;
	f->element = f->size;
	element = type;
	if (dw.dwarf_tag(&type) == TAG_ARRAY && (!type_of(&type, &element) || dw.dwarf_aggregate_size(&element, &f->element) != 0))
		return false;
	if (f->element == 1)
		f->element = f->size;
	if (is_aggregate(&element))
		f->type = inner_type(t, &element, f->element);
	/* An empty base class has a byte that is the first member's. */
	if (tag == TAG_INHERITANCE && (f->type == OBJECTS_NO_TYPE || !t->types[f->type].n_fields))
		return false;
	name = tag == TAG_MEMBER ? dw.dwarf_diename(member) : NULL;
	f->name = add_string(t, name ? name : "");
	return true;
}

static int by_offset(const void *a, const void *b)
{
	const struct objects_field *x = a, *y = b;

	return x->offset != y->offset ? (x->offset < y->offset ? -1 : 1) : x->name < y->name ? -1 : 1;
}

/* Those of one type stand together: what is in them has come before. */
static void add_fields(struct types *t, size_t number, struct die *type)
{
	struct objects_field *own = NULL, field;
	struct die member;
	size_t n = 0;

	for (int r = dw.dwarf_child(type, &member); r == 0; r = dw.dwarf_siblingof(&member, &member)) {
		if (!describe_member(t, &member, &field))
			continue;
		own = xrealloc(own, (n + 1) * sizeof *own);
		own[n++] = field;
	}
	if (n == 0)
		return;
	qsort(own, n, sizeof *own, by_offset);
	t->fields = xrealloc(t->fields, (t->n_fields + n) * sizeof *t->fields);
	memcpy(t->fields + t->n_fields, own, n * sizeof *own);
	t->types[number].fields = (uint32_t)t->n_fields;
	t->types[number].n_fields = (uint32_t)n;
	t->n_fields += n;
	free(own);
}

/* Below `scope`, by its name in each namespace or class: the type of so many bytes. */
static bool find_type(struct die *scope, const char *name, uint64_t size, int depth, struct die *out)
{
	size_t length = strcspn(name, ":");
	struct die d;

	for (int r = dw.dwarf_child(scope, &d); r == 0; r = dw.dwarf_siblingof(&d, &d)) {
		const char *is = dw.dwarf_diename(&d);
		uint64_t bytes;

		if (!is || strncmp(is, name, length) != 0 || is[length])
			continue;
		if (name[length]) {
			if ((dw.dwarf_tag(&d) == TAG_NAMESPACE || is_aggregate(&d)) && depth < DEPTH_MAX &&
			    find_type(&d, name + length + strspn(name + length, ":"), size, depth + 1, out))
				return true;
			continue;
		}
		*out = d;
		if (dw.dwarf_tag(&d) == TAG_TYPEDEF && dw.dwarf_peel_type(&d, out) != 0)
			continue;
		if (is_aggregate(out) && dw.dwarf_aggregate_size(out, &bytes) == 0 && bytes == size)
			return true;
	}
	return false;
}

static const char *without_keyword(const char *name)
{
	static const char *const keywords[] = { "struct ", "class ", "union " };

	for (size_t i = 0; i < ELEMENTSOF(keywords); i++) {
		if (!strncmp(name, keywords[i], strlen(keywords[i])))
			return name + strlen(keywords[i]);
	}
	return name + (strncmp(name, "::", 2) ? 0 : 2);
}

static void read_type(struct types *t, size_t number, void *session)
{
	_cleanup_free_ char *name = xstrdup(without_keyword(t->strings.data + t->types[number].name));
	struct die *unit = NULL, found;
	uint64_t bias;

	while ((unit = dw.dwfl_nextcu(session, unit, &bias))) {
		if (!find_type(unit, name, t->types[number].size, 0, &found))
			continue;
		t->dies[number] = found.address;
		add_fields(t, number, &found);
		return;
	}
}

void types_read(struct types *t, const char *plugin)
{
	struct callbacks callbacks = { 0 };
	size_t described = t->n;
	void *session;

	if (!libdw_load())
		return;
	callbacks.find_elf = (void *)dw.dwfl_build_id_find_elf;
	callbacks.find_debuginfo = libdw_find_debuginfo((void *)dw.dwfl_standard_find_debuginfo, (void *)dw.dwfl_build_id_find_debuginfo);
	callbacks.section_address = (void *)dw.dwfl_offline_section_address;
	session = dw.dwfl_begin(&callbacks);
	if (!session)
		return;
	if (dw.dwfl_report_offline(session, "plugin", plugin, -1) && dw.dwfl_report_end(session, NULL, NULL) == 0) {
		for (size_t i = 0; i < described; i++)
			read_type(t, i, session);
	}
	dw.dwfl_end(session);
}

void types_deinit(struct types *t)
{
	free(t->types);
	free(t->dies);
	free(t->fields);
	text_deinit(&t->strings);
}
