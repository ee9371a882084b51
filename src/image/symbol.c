/* SPDX-License-Identifier: MIT */
/* The formats are those of elf(5). The linker knows names that others may use; those of static ones are in the file only. */
#include "image/symbol.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fd.h"

struct search {
	struct symbol *s;
	uintptr_t address;
	uintptr_t value; /* what the symbol table of its object has in the place of the address */
};

static void look_at_segment(struct search *q, const struct dl_phdr_info *info, const ElfW(Phdr) * p)
{
	uintptr_t start = p->p_type == PT_TLS ? (uintptr_t)info->dlpi_tls_data : info->dlpi_addr + p->p_vaddr;

	if (!start || q->address < start || q->address - start >= p->p_memsz)
		return;
	if (p->p_type == PT_GNU_RELRO)
		q->s->relocated = true;
	if (p->p_type != PT_LOAD && p->p_type != PT_TLS)
		return;
	q->s->thread = p->p_type == PT_TLS;
	q->s->flags = p->p_flags;
	q->s->object = *info->dlpi_name ? info->dlpi_name : "the builder";
	q->value = q->s->thread ? q->address - start : q->address - info->dlpi_addr;
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct search *q = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++)
		look_at_segment(q, info, &info->dlpi_phdr[i]);
	return q->s->object != NULL;
}

/* A whole file in memory. NULL: it cannot be read, or is none of this kind. */
static const char *map_file(const char *path, size_t *size)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const char *p;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (size_t)st.st_size < sizeof(Elf64_Ehdr))
		return NULL;
	*size = (size_t)st.st_size;
	p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return NULL;
	if (!memcmp(p, ELFMAG, SELFMAG) && p[EI_CLASS] == ELFCLASS64)
		return p;
	munmap((void *)p, *size);
	return NULL;
}

static bool is_within(uint64_t offset, uint64_t length, size_t size)
{
	return offset <= size && length <= size - offset;
}

static bool is_of_kind(const Elf64_Sym *y, bool thread)
{
	int type = ELF64_ST_TYPE(y->st_info);

	return y->st_shndx != SHN_UNDEF && (thread ? type == STT_TLS : type == STT_OBJECT || type == STT_FUNC);
}

/* By one table of symbols of a file. */
static char *name_in_table(const char *file, size_t size, const Elf64_Shdr *table, const Elf64_Shdr *strings, const struct search *q)
{
	if (!is_within(table->sh_offset, table->sh_size, size) || !is_within(strings->sh_offset, strings->sh_size, size))
		return NULL;
	for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table->sh_size; at += sizeof(Elf64_Sym)) {
		Elf64_Sym y;
		const char *name;

		memcpy(&y, file + table->sh_offset + at, sizeof y);
		if (!is_of_kind(&y, q->s->thread) || q->value < y.st_value || q->value - y.st_value >= y.st_size ||
		    y.st_name >= strings->sh_size)
			continue;
		name = file + strings->sh_offset + y.st_name;
		return strndup(name, strings->sh_size - y.st_name);
	}
	return NULL;
}

static char *name_in_file(const char *path, const struct search *q)
{
	size_t size;
	const char *file = map_file(path, &size);
	char *name = NULL;
	Elf64_Ehdr h;

	if (!file)
		return NULL;
	memcpy(&h, file, sizeof h);
	if (h.e_shentsize == sizeof(Elf64_Shdr) && is_within(h.e_shoff, (uint64_t)h.e_shnum * sizeof(Elf64_Shdr), size)) {
		for (size_t i = 0; i < h.e_shnum && !name; i++) {
			Elf64_Shdr table, strings;

			memcpy(&table, file + h.e_shoff + i * sizeof table, sizeof table);
			if ((table.sh_type != SHT_SYMTAB && table.sh_type != SHT_DYNSYM) || table.sh_link >= h.e_shnum)
				continue;
			memcpy(&strings, file + h.e_shoff + table.sh_link * sizeof strings, sizeof strings);
			name = name_in_table(file, size, &table, &strings, q);
		}
	}
	munmap((void *)file, size);
	return name;
}

static char *name_of_linker(uintptr_t address)
{
	const ElfW(Sym) *entry = NULL;
	Dl_info info;

	if (!dladdr1((void *)address, &info, (void **)&entry, RTLD_DL_SYMENT) || !info.dli_sname || !entry ||
	    address - (uintptr_t)info.dli_saddr >= entry->st_size)
		return NULL;
	return strdup(info.dli_sname);
}

static char *as_written(const char *linked)
{
	/* A program of C has no use for it; what somebody else has loaded need not be seen by all. */
	void *library = dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);
	char *(*demangle)(const char *, char *, size_t *, int *) =
		(char *(*)(const char *, char *, size_t *, int *))dlsym(library ? library : RTLD_DEFAULT, "__cxa_demangle");
	int status;
	char *name = demangle ? demangle(linked, NULL, NULL, &status) : NULL;

	return name ? name : strdup(linked);
}

void symbol_find(uintptr_t address, struct symbol *s)
{
	struct search q = { s, address, 0 };

	*s = (struct symbol){ 0 };
	dl_iterate_phdr(look_at_object, &q);
	if (!s->object)
		return;
	s->linked = s->thread ? NULL : name_of_linker(address);
	if (!s->linked)
		s->linked = name_in_file(s->object[0] == '/' ? s->object : "/proc/self/exe", &q);
	s->name = s->linked ? as_written(s->linked) : NULL;
}

void symbol_deinit(struct symbol *s)
{
	free(s->linked);
	free(s->name);
}
