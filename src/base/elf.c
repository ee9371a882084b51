/* SPDX-License-Identifier: MIT */
/* The format is that of elf(5). The few bytes that matter are read: this is done for every program that is started. */
#include "base/elf.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define HEADERS_MAX 32
#define DYNAMIC_MAX 96
#define NAME_MAX_ 64
#define NOTES_MAX 8
#define GO_BUILD_ID 4

struct elf {
	int fd;
	const char *head; /* the first bytes of the file */
	size_t have;
	Elf64_Phdr headers[HEADERS_MAX];
	size_t n;
};

/* At most `size` bytes; how many, or -1. Much of what is looked for lies at the start of the file. */
static ssize_t read_some(const struct elf *e, uint64_t offset, void *out, size_t size)
{
	if (offset <= e->have && size <= e->have - offset) {
		memcpy(out, e->head + offset, size);
		return (ssize_t)size;
	}
	return offset < INT64_MAX ? pread(e->fd, out, size, (off_t)offset) : -1;
}

static bool read_at(const struct elf *e, uint64_t offset, void *out, size_t size)
{
	return read_some(e, offset, out, size) == (ssize_t)size;
}

static bool read_headers(struct elf *e)
{
	Elf64_Ehdr h;

	if (!read_at(e, 0, &h, sizeof h) || memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_ident[EI_CLASS] != ELFCLASS64 ||
	    h.e_phentsize != sizeof *e->headers || h.e_phnum > HEADERS_MAX)
		return false;
	e->n = h.e_phnum;
	return read_at(e, h.e_phoff, e->headers, e->n * sizeof *e->headers);
}

static const Elf64_Phdr *find_dynamic(const struct elf *e)
{
	for (size_t i = 0; i < e->n; i++) {
		if (e->headers[i].p_type == PT_DYNAMIC)
			return &e->headers[i];
	}
	return NULL;
}

/* Where in the file an address of the program comes from. */
static uint64_t offset_of(const struct elf *e, uint64_t address)
{
	for (size_t i = 0; i < e->n; i++) {
		const Elf64_Phdr *h = &e->headers[i];

		if (h->p_type == PT_LOAD && address >= h->p_vaddr && address - h->p_vaddr < h->p_filesz)
			return h->p_offset + (address - h->p_vaddr);
	}
	return UINT64_MAX;
}

struct dynamic {
	Elf64_Dyn all[DYNAMIC_MAX];
	size_t n;
	uint64_t strings; /* where in the file they are */
};

static bool read_dynamic(const struct elf *e, struct dynamic *d)
{
	const Elf64_Phdr *header = find_dynamic(e);

	d->n = header ? header->p_filesz / sizeof(Elf64_Dyn) : 0;
	d->strings = UINT64_MAX;
	if (d->n > DYNAMIC_MAX)
		d->n = DYNAMIC_MAX;
	if (d->n == 0 || !read_at(e, header->p_offset, d->all, d->n * sizeof *d->all))
		return false;
	for (size_t i = 0; i < d->n && d->all[i].d_tag != DT_NULL; i++) {
		if (d->all[i].d_tag == DT_STRTAB)
			d->strings = offset_of(e, d->all[i].d_un.d_ptr);
	}
	return d->strings <= INT64_MAX / 2;
}

/* The string of an entry; false: it is none, or longer. */
static bool read_string(const struct elf *e, const struct dynamic *d, size_t i, char *out, size_t room)
{
	ssize_t n = d->all[i].d_un.d_val > INT64_MAX / 2 ? -1 : read_some(e, d->strings + d->all[i].d_un.d_val, out, room);

	return n > 0 && memchr(out, '\0', (size_t)n);
}

static bool find_sanitizer(const struct elf *e, char *out, size_t room)
{
	struct dynamic d;

	if (!read_dynamic(e, &d))
		return false;
	for (size_t i = 0; i < d.n && d.all[i].d_tag != DT_NULL; i++) {
		char name[NAME_MAX_];

		if (d.all[i].d_tag == DT_NEEDED && read_string(e, &d, i, name, sizeof name) && !strncmp(name, "libasan.so.", 11) &&
		    strlen(name) < room) {
			strcpy(out, name);
			return true;
		}
	}
	return false;
}

static bool is_search(const Elf64_Dyn *d)
{
	return d->d_tag == DT_RUNPATH || d->d_tag == DT_RPATH;
}

void elf_strings(int fd, bool (*each)(void *arg, enum elf_string what, const char *string), void *arg)
{
	struct elf e = { .fd = fd };
	char string[ELF_STRING_MAX];
	struct dynamic d;
	bool more = read_headers(&e) && read_dynamic(&e, &d);

	for (int pass = ELF_SEARCH; more && pass <= ELF_NEEDED; pass++) {
		for (size_t i = 0; more && i < d.n && d.all[i].d_tag != DT_NULL; i++) {
			if ((pass == ELF_SEARCH ? is_search(&d.all[i]) : d.all[i].d_tag == DT_NEEDED) &&
			    read_string(&e, &d, i, string, sizeof string))
				more = each(arg, (enum elf_string)pass, string);
		}
	}
}

bool elf_has_search(int fd, const void *head, size_t have)
{
	struct elf e = { .fd = fd, .head = head, .have = have };
	struct dynamic d;
	int saved = errno;
	bool has = false;

	if (read_headers(&e) && read_dynamic(&e, &d)) {
		for (size_t i = 0; !has && i < d.n && d.all[i].d_tag != DT_NULL; i++)
			has = is_search(&d.all[i]);
	}
	errno = saved;
	return has;
}

bool elf_sanitizer(int fd, char *out, size_t room)
{
	return elf_sanitizer_of(fd, NULL, 0, out, room);
}

bool elf_sanitizer_of(int fd, const void *head, size_t have, char *out, size_t room)
{
	struct elf e = { .fd = fd, .head = head, .have = have };
	int saved = errno;
	bool found = read_headers(&e) && find_sanitizer(&e, out, room);

	errno = saved;
	return found;
}

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#elif defined(__aarch64__)
#define MACHINE EM_AARCH64
#else
#define MACHINE EM_NONE
#endif

/* Of those that may be in one root directory with glibc's. */
static bool has_other_loader(const struct elf *e)
{
	static const char musl[] = "/ld-musl-";
	char path[NAME_MAX_] = "";

	for (size_t i = 0; i < e->n; i++) {
		if (e->headers[i].p_type == PT_INTERP && read_some(e, e->headers[i].p_offset, path, sizeof path - 1) > 0)
			return strstr(path, musl) != NULL;
	}
	return false;
}

bool elf_is_foreign(int fd, const void *head, size_t have)
{
	struct elf e = { .fd = fd, .head = head, .have = have };
	int saved = errno;
	Elf64_Ehdr h;
	bool foreign = read_at(&e, 0, &h, sizeof h) && !memcmp(h.e_ident, ELFMAG, SELFMAG) &&
		       (h.e_ident[EI_CLASS] != ELFCLASS64 || (MACHINE != EM_NONE && h.e_machine != MACHINE) ||
			(read_headers(&e) && has_other_loader(&e)));

	errno = saved;
	return foreign;
}

bool elf_is_static(int fd, const void *head, size_t have)
{
	struct elf e = { .fd = fd, .head = head, .have = have };
	int saved = errno;
	struct dynamic d;
	bool is = read_headers(&e) && e.n > 0;

	for (size_t i = 0; i < e.n && is; i++)
		is = e.headers[i].p_type != PT_INTERP;
	/* A loader is none either, but has a name. */
	if (is && read_dynamic(&e, &d)) {
		for (size_t i = 0; i < d.n && d.all[i].d_tag != DT_NULL; i++)
			is = is && d.all[i].d_tag != DT_SONAME;
	}
	errno = saved;
	return is;
}

static uint64_t aligned_to_4(uint64_t n)
{
	return (n + 3) & ~(uint64_t)3;
}

/* Notes of the segment; the few that a linker writes are small. */
static bool has_go_note(const struct elf *e, const Elf64_Phdr *h)
{
	uint64_t at = 0;

	for (int i = 0; i < NOTES_MAX && at < h->p_filesz; i++) {
		Elf64_Nhdr note;
		char name[4];

		if (!read_at(e, h->p_offset + at, &note, sizeof note))
			return false;
		at += sizeof note;
		if (note.n_type == GO_BUILD_ID && note.n_namesz == sizeof name && read_at(e, h->p_offset + at, name, sizeof name) &&
		    !memcmp(name, "Go\0", sizeof name))
			return true;
		at += aligned_to_4(note.n_namesz) + aligned_to_4(note.n_descsz);
	}
	return false;
}

bool elf_is_go(int fd, const void *head, size_t have)
{
	struct elf e = { .fd = fd, .head = head, .have = have };
	int saved = errno;
	bool is = false;

	if (read_headers(&e)) {
		for (size_t i = 0; i < e.n && !is; i++)
			is = e.headers[i].p_type == PT_NOTE && has_go_note(&e, &e.headers[i]);
	}
	errno = saved;
	return is;
}
