/* SPDX-License-Identifier: MIT */
/*
 * What lies where in an image of objects, as its plugin has described it: a table at the end of the image, of which nothing else in it
 * knows. Offsets count from the start of the image, so that it may lie at any address.
 *
 *	struct objects_object[n_objects]	by offset
 *	struct objects_type[n_types]
 *	struct objects_field[n_fields]		of each type together, by offset
 *	strings					each with a NUL
 *	zeros					up to a multiple of 8 bytes
 *	struct objects_end			the last bytes of the image
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define OBJECTS_MAGIC "fixd objects 1\n"
#define OBJECTS_NO_TYPE UINT32_MAX

/* So many of one type, one after the other. */
struct objects_object {
	uint64_t offset, count;
	uint32_t type, reserved;
};

/* `name` is an offset into the strings. */
struct objects_type {
	uint64_t size;
	uint32_t name;
	uint32_t fields, n_fields; /* the first of them */
	uint32_t reserved;
};

/* An array has elements of `element` bytes; what is none, or is text, has one element. */
struct objects_field {
	uint64_t offset, size, element;
	uint32_t name; /* empty: what is in it belongs to the type itself (a base class, an anonymous struct) */
	uint32_t type; /* of an element, if that has fields; or OBJECTS_NO_TYPE */
};

struct objects_end {
	uint64_t start; /* of the table */
	uint64_t n_objects;
	uint32_t n_types, n_fields;
	uint32_t strings; /* bytes */
	uint32_t reserved;
	char magic[16];
};

/*
 * The name of what is at that offset, such as `struct word[12].next`, with at most `room` - 1 bytes of it in `text`. Returns how long
 * it is. 0: the image has no table, or that is not in it.
 */
size_t objects_name(const void *image, size_t size, uint64_t offset, char *text, size_t room);
