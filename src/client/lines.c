/* SPDX-License-Identifier: MIT */
#include "client/lines.h"

#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define LIBDW(X)                                                                                                             \
	X(dwfl_begin, void *, (const struct callbacks *))                                                                    \
	X(dwfl_end, void, (void *))                                                                                          \
	X(dwfl_linux_proc_report, int, (void *, int))                                                                        \
	X(dwfl_report_end, int, (void *, void *, void *))                                                                    \
	X(dwfl_addrmodule, void *, (void *, uint64_t))                                                                       \
	X(dwfl_getmodules, ptrdiff_t, (void *, int (*)(void *, void **, const char *, uint64_t, void *), void *, ptrdiff_t)) \
	X(dwfl_module_getsymtab, int, (void *))                                                                              \
	X(dwfl_module_getsym_info, const char *, (void *, int, Elf64_Sym *, uint64_t *, uint32_t *, void *, uint64_t *))     \
	X(dwfl_module_getsrc, void *, (void *, uint64_t))                                                                    \
	X(dwfl_lineinfo, const char *, (void *, uint64_t *, int *, int *, void *, void *))                                   \
	X(dwfl_module_addrname, const char *, (void *, uint64_t))                                                            \
	X(dwfl_module_addrdie, struct die *, (void *, uint64_t, uint64_t *))                                                 \
	X(dwarf_getscopes, int, (struct die *, uint64_t, struct die **))                                                     \
	X(dwarf_getscopes_die, int, (struct die *, struct die **))                                                           \
	X(dwarf_tag, int, (struct die *))                                                                                    \
	X(dwarf_diename, const char *, (struct die *))                                                                       \
	X(dwarf_attr, struct attribute *, (struct die *, unsigned, struct attribute *))                                      \
	X(dwarf_attr_integrate, struct attribute *, (struct die *, unsigned, struct attribute *))                            \
	X(dwarf_formstring, const char *, (struct attribute *))                                                              \
	X(dwarf_formudata, int, (struct attribute *, uint64_t *))                                                            \
	X(dwarf_getsrcfiles, int, (struct die *, void **, size_t *))                                                         \
	X(dwarf_filesrc, const char *, (void *, size_t, uint64_t *, uint64_t *))                                             \
	X(dwfl_linux_proc_find_elf, int, (void))                                                                             \
	X(dwfl_standard_find_debuginfo, int, (void))                                                                         \
	X(dwfl_build_id_find_debuginfo, int, (void))
#include "base/libdw.h"

static pthread_mutex_t lines_lock = PTHREAD_MUTEX_INITIALIZER;
static void *session;		 /* of libdw: what is mapped in this process */
static unsigned long long loads; /* of libraries and their ends, when it began */

/* libdw may be in the middle of something, for a thread that there is not here. */
void lines_survive_fork(void)
{
	if (pthread_mutex_trylock(&lines_lock) != 0)
		session = NULL;
	pthread_mutex_init(&lines_lock, NULL);
}

static int count_loads(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(unsigned long long *)arg = info->dlpi_adds + info->dlpi_subs;
	return 1;
}

static void lines_forget(void)
{
	if (session)
		dw.dwfl_end(session);
	session = NULL;
}

static bool begin(void)
{
	static struct callbacks callbacks;
	unsigned long long now = 0;

	if (!libdw_load())
		return false;
	/* What was loaded or taken away since is another one. */
	dl_iterate_phdr(count_loads, &now);
	if (session && now == loads)
		return true;
	lines_forget();
	callbacks.find_elf = (void *)dw.dwfl_linux_proc_find_elf;
	callbacks.find_debuginfo = libdw_find_debuginfo((void *)dw.dwfl_standard_find_debuginfo, (void *)dw.dwfl_build_id_find_debuginfo);
	loads = now;
	session = dw.dwfl_begin(&callbacks);
	if (session && (dw.dwfl_linux_proc_report(session, getpid()) != 0 || dw.dwfl_report_end(session, NULL, NULL) != 0))
		lines_forget();
	return session != NULL;
}

/* To be freed, or NULL: it is no name of C++, or nobody here knows how. */
static char *demangle(const char *name)
{
	char *(*fn)(const char *, char *, size_t *, int *) =
		(char *(*)(const char *, char *, size_t *, int *))dlsym(RTLD_DEFAULT, "__cxa_demangle");
	int status;

	return fn && !strncmp(name, "_Z", 2) ? fn(name, NULL, NULL, &status) : NULL;
}

static void tell(lines_fn fn, void *arg, struct line *l)
{
	char *demangled = l->function ? demangle(l->function) : NULL;
	struct line as_written = *l;

	if (demangled)
		as_written.function = demangled;
	fn(arg, &as_written);
	free(demangled);
}

static const char *name_of(struct die *d)
{
	struct attribute a;
	const char *linked = NULL;

	/* DW_AT_linkage_name: with what it is in. */
	if (dw.dwarf_attr_integrate(d, 0x6e, &a))
		linked = dw.dwarf_formstring(&a);
	return linked ? linked : dw.dwarf_diename(d);
}

static bool number_of(struct die *d, unsigned attribute, uint64_t *n)
{
	struct attribute a;

	return dw.dwarf_attr(d, attribute, &a) && dw.dwarf_formudata(&a, n) == 0;
}

/* Out of each inlined function into the one that calls it: `l` is where the innermost stands. */
static void tell_inlined(struct die *unit, uint64_t address, struct line *l, lines_fn fn, void *arg)
{
	struct die *innermost = NULL, *scopes = NULL;
	int n = dw.dwarf_getscopes(unit, address, &innermost) > 0 ? dw.dwarf_getscopes_die(&innermost[0], &scopes) : 0;
	const char *outer = l->function;

	for (int i = 0; i < n; i++) {
		uint64_t file, line;
		size_t n_files;
		void *files;

		if (dw.dwarf_tag(&scopes[i]) == TAG_SUBPROGRAM)
			break;
		if (dw.dwarf_tag(&scopes[i]) != TAG_INLINED)
			continue;
		l->function = name_of(&scopes[i]);
		tell(fn, arg, l);
		l->function = outer;
		if (!number_of(&scopes[i], AT_CALL_FILE, &file) || !number_of(&scopes[i], AT_CALL_LINE, &line) ||
		    dw.dwarf_getsrcfiles(unit, &files, &n_files) != 0)
			break;
		l->file = dw.dwarf_filesrc(files, file, NULL, NULL);
		l->line = (int)line;
	}
	free(innermost);
	free(scopes);
}

/* NULL: no program or library is there, or nobody can tell. */
static void *module_of(uint64_t address)
{
	return begin() ? dw.dwfl_addrmodule(session, address) : NULL;
}

static void lines_look(const void *address, lines_fn fn, void *arg)
{
	uint64_t at = (uintptr_t)address, bias;
	struct line l = { 0 };
	void *module, *source;
	struct die *unit;
	Dl_info info;

	if (dladdr(address, &info)) {
		l.module = info.dli_fname;
		l.offset = at - (uintptr_t)info.dli_fbase;
		l.function = info.dli_sname;
	}
	module = module_of(at);
	if (module) {
		const char *name = dw.dwfl_module_addrname(module, at);

		l.function = name ? name : l.function;
		source = dw.dwfl_module_getsrc(module, at);
		l.file = source ? dw.dwfl_lineinfo(source, NULL, &l.line, NULL, NULL, NULL) : NULL;
		unit = l.file ? dw.dwfl_module_addrdie(module, at, &bias) : NULL;
		if (unit)
			tell_inlined(unit, at - bias, &l, fn, arg);
	}
	tell(fn, arg, &l);
}

void lines_of(const void *address, lines_fn fn, void *arg)
{
	pthread_mutex_lock(&lines_lock);
	lines_look(address, fn, arg);
	pthread_mutex_unlock(&lines_lock);
}

struct search {
	uintptr_t lowest, address, best; /* what the best one points to */
	const char *name;
};

/* As wide as a pointer, and in this process's memory. */
static bool is_pointer(const Elf64_Sym *s)
{
	return ELF64_ST_TYPE(s->st_info) == STT_OBJECT && s->st_size == sizeof(void *) && s->st_shndx != SHN_UNDEF;
}

/* Of the system, or of ours, which know where views are. */
static bool is_passed_over(const char *module)
{
	const char *slash = strrchr(module, '/');

	return !strncmp(module, "/usr/", 5) || !strncmp(module, "/lib", 4) || *module == '[' || (slash && !strncmp(slash, "/libfixd", 8));
}

/* The file may not be any more what was loaded. */
static bool read_word(void *from, uintptr_t *word)
{
	const struct iovec here = { word, sizeof *word }, there = { from, sizeof *word };

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == sizeof *word;
}

static int search_module(void *module, void **unused, const char *name, uint64_t start, void *arg)
{
	struct search *s = arg;
	int n;

	(void)unused, (void)start;
	if (is_passed_over(name))
		return 0;
	n = dw.dwfl_module_getsymtab(module);
	for (int i = 0; i < n; i++) {
		uint64_t at, bias;
		Elf64_Sym symbol;
		uint32_t section;
		const char *is = dw.dwfl_module_getsym_info(module, i, &symbol, &at, &section, NULL, &bias);
		uintptr_t value;

		if (!is || !is_pointer(&symbol))
			continue;
		if (!read_word((void *)(uintptr_t)at, &value))
			continue;
		if (value < s->lowest || value > s->address || (s->name && value <= s->best))
			continue;
		s->best = value;
		s->name = is;
	}
	return 0;
}

bool lines_variable(uintptr_t lowest, uintptr_t address, char *name, size_t size, uint64_t *offset)
{
	struct search s = { .lowest = lowest, .address = address };

	pthread_mutex_lock(&lines_lock);
	if (begin())
		dw.dwfl_getmodules(session, search_module, &s, 0);
	if (s.name)
		snprintf(name, size, "%s", s.name);
	pthread_mutex_unlock(&lines_lock);
	*offset = address - s.best;
	return s.name != NULL;
}
