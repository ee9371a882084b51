/* SPDX-License-Identifier: MIT */
/*
 * Libraries that a program loads while it runs. To the loader the caller of dlopen() is what the library is for: its RUNPATH is
 * searched, its origin is $ORIGIN. It must not be the shim, so the real function is jumped to with the program's return address
 * on the stack. The path it gets cannot lie in a frame then, and is kept.
 */
#include "preload/environment.h"
#include "preload/search.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/elf.h"
#include "preload/quiet.h"

/* A library in a fixture, for good. */
struct library {
	struct library *next;
	const char *path;  /* where it is */
	const char *given; /* what the program calls it */
	char visible[];
};

static struct library *libraries;

static const struct library *first_library(void)
{
	const struct library *l;

	lists_take();
	l = libraries;
	lists_leave();
	return l;
}

/* The one at this path. NULL: there is no memory. */
static const struct library *keep_library(const char *visible, const char *given, const char *path)
{
	const size_t n = strlen(visible) + 1, n_given = strlen(given) + 1, n_path = strlen(path) + 1;
	struct library *l;

	for (const struct library *had = first_library(); had; had = had->next) {
		if (!strcmp(had->path, path))
			return had;
	}
	l = malloc(sizeof *l + n + n_given + n_path);
	if (!l)
		return NULL;
	l->given = l->visible + n;
	l->path = l->visible + n + n_given;
	quiet_copy(l->visible, visible, n);
	quiet_copy(l->visible + n, given, n_given);
	quiet_copy(l->visible + n + n_given, path, n_path);
	lists_take();
	l->next = libraries;
	libraries = l;
	lists_leave();
	return l;
}

static bool is_loaded(const char *path)
{
	void *handle = REAL(dlopen)(path, RTLD_LAZY | RTLD_NOLOAD);

	if (handle)
		dlclose(handle);
	return handle != NULL;
}

/* One path stands for one library as long as that is loaded, also when the file there is another one by now. */
static const struct library *find_loaded(const char *visible)
{
	const struct library *l = first_library();

	while (l && (strcmp(l->visible, visible) != 0 || !is_loaded(l->path)))
		l = l->next;
	return l;
}

/* Where nothing is, so that the loader fails, with the program's path in its message. */
static const char *nowhere(const char *path)
{
	char none[PATH_MAX];
	const struct library *l;

	snprintf(none, sizeof none, "/dev/null/%s", path);
	l = keep_library(path, path, none);
	return l ? l->path : "/dev/null/";
}

/* For good: what needs it finds it by its name then. */
static void load_needed(void *arg, enum search_what what, const char *real)
{
	(void)arg;
	if (what == SEARCH_LIBRARY)
		REAL(dlopen)(real, RTLD_LAZY | RTLD_LOCAL);
}

static APART const char *path_table_library(const char *path)
{
	const struct library *l;
	struct resolved p;
	int r = resolve_program(&p, path);

	/* The path of a descriptor is another library's next time. */
	if (r <= 0)
		return r < 0 ? nowhere(path) : path;
	l = find_loaded(p.visible);
	if (!l) {
		search_libraries(p.visible, environment_libraries_at_start(), load_needed, NULL);
		l = keep_library(p.visible, path, p.path);
	}
	return l ? l->path : nowhere(path);
}

/* What lies elsewhere may need something in a fixture, if it says where to look. */
static bool may_need_shown(const char *path)
{
	int fd = REAL(open)(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	bool may = fd >= 0 && elf_has_search(fd, NULL, 0);

	if (fd >= 0)
		REAL(close)(fd);
	return may;
}

/* `flags` of dlopen(); RTLD_NOLOAD: nothing else is to be loaded for it. */
static const char *library_path(const char *path, int flags)
{
	int saved = errno;

	if (likely(!run) || !path || !*path)
		return path;
	if (strchr(path, '/') && resolve_reach(AT_FDCWD, path) == REACH_INSIDE) {
		path = path_table_library(path);
	} else if (!(flags & RTLD_NOLOAD)) {
		const char *more = environment_libraries_at_start();
		bool searched = strchr(path, '/') != NULL;

		/* A name alone is searched for, there first. */
		if ((searched || *more) && !is_loaded(path) && (!searched || may_need_shown(path)))
			search_libraries(path, more, load_needed, NULL);
	}
	errno = saved;
	return path;
}

/* In two registers. */
struct jump {
	const char *path;
	void *to;
};

#define JUMP __attribute__((used)) struct jump

JUMP library_dlopen(const char *path, int flags);
JUMP library_dlmopen(const char *path);

JUMP library_dlopen(const char *path, int flags)
{
	return (struct jump){ library_path(path, flags), (void *)REAL(dlopen) };
}

/* Of other namespaces nothing is loaded here. */
JUMP library_dlmopen(const char *path)
{
	return (struct jump){ library_path(path, RTLD_NOLOAD), (void *)REAL(dlmopen) };
}

#define FUNCTION(name, body)                                                                                                          \
	__asm__(".text\n.globl " #name "\n.type " #name ", %function\n" #name ":\n.cfi_startproc\n" body ".cfi_endproc\n.size " #name \
		", .-" #name "\n")

#if defined(__x86_64__)
FUNCTION(dlopen, "	endbr64\n"
		 "	pushq %rsi\n"
		 "	.cfi_adjust_cfa_offset 8\n"
		 "	call library_dlopen\n"
		 "	popq %rsi\n"
		 "	.cfi_adjust_cfa_offset -8\n"
		 "	movq %rax, %rdi\n"
		 "	jmp *%rdx\n");
FUNCTION(dlmopen, "	endbr64\n"
		  "	pushq %rdi\n"
		  "	pushq %rdx\n"
		  "	pushq %rdx\n" /* for the alignment */
		  "	.cfi_adjust_cfa_offset 24\n"
		  "	movq %rsi, %rdi\n"
		  "	call library_dlmopen\n"
		  "	movq %rax, %rsi\n"
		  "	movq %rdx, %rax\n"
		  "	popq %rdx\n"
		  "	popq %rdx\n"
		  "	popq %rdi\n"
		  "	.cfi_adjust_cfa_offset -24\n"
		  "	jmp *%rax\n");
#elif defined(__aarch64__)
FUNCTION(dlopen, "	stp x29, x30, [sp, #-32]!\n"
		 "	.cfi_adjust_cfa_offset 32\n"
		 "	.cfi_rel_offset x29, 0\n"
		 "	.cfi_rel_offset x30, 8\n"
		 "	str x1, [sp, #16]\n"
		 "	bl library_dlopen\n"
		 "	mov x16, x1\n"
		 "	ldr x1, [sp, #16]\n"
		 "	ldp x29, x30, [sp], #32\n"
		 "	.cfi_adjust_cfa_offset -32\n"
		 "	br x16\n");
FUNCTION(dlmopen, "	stp x29, x30, [sp, #-32]!\n"
		  "	.cfi_adjust_cfa_offset 32\n"
		  "	.cfi_rel_offset x29, 0\n"
		  "	.cfi_rel_offset x30, 8\n"
		  "	stp x0, x2, [sp, #16]\n"
		  "	mov x0, x1\n"
		  "	bl library_dlmopen\n"
		  "	mov x16, x1\n"
		  "	mov x1, x0\n"
		  "	ldp x0, x2, [sp, #16]\n"
		  "	ldp x29, x30, [sp], #32\n"
		  "	.cfi_adjust_cfa_offset -32\n"
		  "	br x16\n");
#endif

/* The file that an address is of. */
static void correct_file(Dl_info *info)
{
	char visible[PATH_MAX];
	const struct library *l;

	if (likely(!run) || !info->dli_fname || strlen(info->dli_fname) >= sizeof visible)
		return;
	strcpy(visible, info->dli_fname);
	l = resolve_visible(visible, sizeof visible) ? keep_library(visible, visible, info->dli_fname) : NULL;
	if (l)
		info->dli_fname = l->given;
}

SHIM int dladdr(const void *address, Dl_info *info)
{
	int r = REAL(dladdr)(address, info);

	if (r)
		correct_file(info);
	return r;
}

SHIM int dladdr1(const void *address, Dl_info *info, void **extra, int flags)
{
	int r = REAL(dladdr1)(address, info, extra, flags);

	if (r)
		correct_file(info);
	return r;
}
