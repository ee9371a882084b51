/* SPDX-License-Identifier: MIT */
#include "client/coverage.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

#define WRITERS_MAX 64

/* gcc's libgcov-driver.c writes what has not been written yet; LLVM's InstrProfiling.h. Neither takes anything that it needs. */
static const char *const names[] = { "__gcov_exit", "__llvm_profile_write_file" };

static uintptr_t writers[WRITERS_MAX];
static size_t n_writers;

struct file {
	const char *data;
	size_t size;
};

/* `n` bytes at `offset`, or NULL. */
static const void *at(const struct file *f, uint64_t offset, uint64_t n)
{
	return offset <= f->size && n <= f->size - offset ? f->data + offset : NULL;
}

static bool is_writer(const struct file *f, const Elf64_Shdr *strings, const Elf64_Sym *s)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t n = strlen(names[i]) + 1;
		const char *name = s->st_name < strings->sh_size ? at(f, strings->sh_offset + s->st_name, n) : NULL;

		if (name && !memcmp(name, names[i], n))
			return ELF64_ST_TYPE(s->st_info) == STT_FUNC && s->st_value;
	}
	return false;
}

static void look_into(const struct file *f, uintptr_t base)
{
	const Elf64_Ehdr *h = at(f, 0, sizeof *h);
	const Elf64_Shdr *sections;

	if (!h || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_shentsize != sizeof *sections)
		return;
	sections = at(f, h->e_shoff, (uint64_t)h->e_shnum * sizeof *sections);
	for (size_t i = 0; sections && i < h->e_shnum; i++) {
		const Elf64_Sym *symbols = at(f, sections[i].sh_offset, sections[i].sh_size);

		if (sections[i].sh_type != SHT_SYMTAB || !symbols || sections[i].sh_link >= h->e_shnum)
			continue;
		for (size_t k = 0; k < sections[i].sh_size / sizeof *symbols; k++) {
			if (n_writers < WRITERS_MAX && is_writer(f, &sections[sections[i].sh_link], &symbols[k]))
				writers[n_writers++] = base + symbols[k].st_value;
		}
	}
}

static int look_at(struct dl_phdr_info *info, size_t size, void *arg)
{
	/* The first is the program, which has no name here. */
	_cleanup_fd_ int fd = open(*info->dlpi_name ? info->dlpi_name : "/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	struct file f = { 0 };

	(void)size;
	(void)arg;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0)
		return 0;
	f.size = (size_t)st.st_size;
	f.data = mmap(NULL, f.size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (f.data == MAP_FAILED)
		return 0;
	look_into(&f, info->dlpi_addr);
	munmap((void *)f.data, f.size);
	return 0;
}

void coverage_find(void)
{
	n_writers = 0;
	dl_iterate_phdr(look_at, NULL);
}

void coverage_write(void)
{
	for (size_t i = 0; i < n_writers; i++)
		((void (*)(void))writers[i])();
}
