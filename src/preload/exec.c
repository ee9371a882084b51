/* SPDX-License-Identifier: MIT */
/*
 * Starting programs: what they are, and where; the shim and its variables go along (preload/environment.h). Between vfork() and exec the
 * memory is the parent's, so everything here lies on the stack.
 */
#include "preload/environment.h"
#include "preload/resolve.h"

#include <alloca.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/elf.h"
#include "base/fd.h"

#define SCRIPT_LINE 256
#define WITHOUT_SHIM(envp) environment_without_shim(envp, alloca(environment_room(envp)))
#define COMPLETE(envp, sanitizer) environment_complete(envp, sanitizer, alloca(environment_room(envp)))
#define WITH_LIBRARIES(envp, p)                                                                         \
	((p).searches || (!(p).foreign && !(p).apart && environment_names_libraries(envp))              \
		 ? environment_with_libraries(envp, (p).runs, alloca(environment_libraries_room(envp))) \
		 : (envp))

/* `script`: NULL, or whose interpreter it is. */
#define NAMED(envp, p, script) \
	((script) && !(p).foreign && !(p).apart ? environment_with_name(envp, script, alloca(environment_name_room(envp))) : (envp))

#define HEAD 3072 /* of a program: most have all in it that is looked for */

static size_t exec_count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* A file that is to be executed. */
struct program {
	const char *path;	       /* where it is */
	char *interpreter;	       /* of a script; NULL: it runs by itself */
	char *argument;		       /* or NULL */
	const char *runs;	       /* what has the libraries: it, or the interpreter that the kernel starts for it */
	bool foreign;		       /* its loader cannot load the shim */
	bool apart;		       /* it runs without the shim */
	bool searches;		       /* it says where its libraries are */
	char sanitizer[SANITIZER_MAX]; /* the runtime it wants first, or "" */
	union {
		char line[SCRIPT_LINE];
		char head[HEAD];
	};
	struct resolved place;
};

/* "#! interpreter [argument]" */
static void parse_script(struct program *p)
{
	char *s = p->line + 2, *end;

	p->line[strcspn(p->line, "\n")] = '\0';
	s += strspn(s, " \t");
	if (!*s)
		return;
	p->interpreter = s;
	s += strcspn(s, " \t");
	if (!*s)
		return;
	*s++ = '\0';
	s += strspn(s, " \t");
	for (end = s + strlen(s); end > s && strchr(" \t", end[-1]); end--)
		;
	*end = '\0';
	p->argument = *s ? s : NULL;
}

/* Another one after every change of the file. */
static uint64_t identity_of(const struct stat *st)
{
	const uint64_t parts[] = { st->st_dev, st->st_ino, (uint64_t)st->st_ctim.tv_sec, (uint64_t)st->st_ctim.tv_nsec };
	uint64_t id = 0;

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		id = (id ^ parts[i]) * 0x9e3779b97f4a7c15;
		id ^= id >> 29;
	}
	return id | 1;
}

/* Files that are changed twice within a tick of the kernel's clock look the same: who was changed just now may be again. */
static bool is_settled(const struct stat *st)
{
	struct timespec now;

	return clock_gettime(CLOCK_REALTIME_COARSE, &now) == 0 && now.tv_sec - st->st_ctim.tv_sec > 1;
}

static bool is_known_as_plain(const char *path)
{
	struct stat st;
	uint64_t id;

	if (kernel(SYS_newfstatat, AT_FDCWD, path, &st, 0) < 0)
		return false;
	id = identity_of(&st);
	return __atomic_load_n(&run->plain[id % RUN_PLAIN], __ATOMIC_RELAXED) == id;
}

static void note_as_plain(int fd)
{
	struct stat st;
	uint64_t id;

	if (kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || !S_ISREG(st.st_mode) || !is_settled(&st))
		return;
	id = identity_of(&st);
	__atomic_store_n(&run->plain[id % RUN_PLAIN], id, __ATOMIC_RELAXED);
}

#define BLIND ", and does not see the fixtures of the run; --isolate=mount shows them, where that is allowed"

/* A tool of valgrind runs another program, and that loads what is preloaded. */
static bool is_of_valgrind(const char *path)
{
	return strstr(path, "/valgrind/");
}

/* Once in a run: what it is about is not in sight of such programs. */
static APART void tell_blind(const char *visible, const char *why)
{
	if (!is_of_valgrind(visible) && !(run->flags & RUN_TREES_MOUNTED) && !__atomic_exchange_n(&run->told_static, 1, __ATOMIC_RELAXED))
		shim_say(NULL, visible, why);
}

/* The kernel does not let a program that gets the rights of somebody else have libraries of the caller's. */
static bool changes_owner(int fd)
{
	struct stat st;

	return kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 &&
	       (((st.st_mode & S_ISUID) && st.st_uid != getuid()) || ((st.st_mode & S_ISGID) && st.st_gid != getgid()));
}

/*
 * What runs without the shim has only what the kernel says to go by: in a directory of a fixture it would write to what all runs
 * share. So the whole fixture is copied, and it starts in the copy. `visible`: where it starts. 0, or -1 and errno.
 */
static APART int copyup_whole(const char *visible)
{
	struct run_entry *e;

	return path_table_reach(visible, &e) == REACH_INSIDE && e->kind == RUN_TREE ? copyup_make(e, run_string(e->path), USE_ALL) : 0;
}

static APART int start_apart(void)
{
	char here[PATH_MAX];
	struct resolved p;

	if (!cwd_cache_visible(here) || resolve_reach(AT_FDCWD, here) != REACH_INSIDE)
		return 0;
	if (copyup_whole(here) < 0 || resolve_path(&p, AT_FDCWD, here, USE_READ) < 0)
		return -1;
	/* A child after vfork() has not followed. */
	return REAL(chdir)(p.path);
}

static APART int spawn_apart(const posix_spawn_file_actions_t *actions)
{
	char there[PATH_MAX];
	struct resolved p;

	if (!actions || !actions_move(actions, ".", there))
		return start_apart();
	return resolve_reach(AT_FDCWD, there) == REACH_INSIDE && resolve_path(&p, AT_FDCWD, there, USE_READ) == 1 ? copyup_whole(p.visible)
														  : 0;
}

/* What the file begins with; of what is no regular file the kernel says what is wrong. */
static void look_inside(struct program *p, const char *visible)
{
	int saved = errno, fd = is_known_as_plain(p->path) ? -1 : REAL(open)(p->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n;

	if (fd >= 0 && (n = pread(fd, p->head, sizeof p->head, 0)) > 2) {
		if (!strncmp(p->head, "#!", 2)) {
			p->line[n < SCRIPT_LINE ? n : SCRIPT_LINE - 1] = '\0';
			parse_script(p);
		} else if ((p->foreign = p->apart = elf_is_foreign(fd, p->head, (size_t)n))) {
			/* It is asked for each time: few are. */
			tell_blind(visible, "it is for another machine, word size or C library" BLIND);
		} else {
			bool is_static = elf_is_static(fd, p->head, (size_t)n), is_blind = is_static || elf_is_go(fd, p->head, (size_t)n);

			if (is_blind)
				tell_blind(visible, is_static ? "it is linked statically" BLIND : "it makes its system calls itself" BLIND);
			p->apart = is_blind || changes_owner(fd);
			p->searches = elf_has_search(fd, p->head, (size_t)n);
			if (!elf_sanitizer_of(fd, p->head, (size_t)n, p->sanitizer, sizeof p->sanitizer) && !p->searches && !p->apart)
				note_as_plain(fd);
		}
	}
	if (fd >= 0)
		REAL(close)(fd);
	errno = saved;
}

/* That of a script which the kernel starts: it is as if the program itself were it. */
static APART void look_at_interpreter(struct program *p)
{
	struct program inner = { .path = p->interpreter };

	look_inside(&inner, inner.path);
	p->runs = p->interpreter;
	p->foreign = inner.foreign;
	p->apart = inner.apart;
	p->searches = inner.searches;
	memcpy(p->sanitizer, inner.sanitizer, sizeof p->sanitizer);
}

static const char *wanted_first(const struct program *p)
{
	return p->foreign ? NO_SHIM : p->sanitizer;
}

/* 0, or -1 and errno. */
static int find_program(struct program *p, const char *path)
{
	/* Without a path it is far, and the kernel says what is wrong. */
	bool shown = resolve_reach(AT_FDCWD, path) == REACH_INSIDE;
	int r = shown ? resolve_program(&p->place, path) : 0;

	p->interpreter = p->argument = NULL;
	p->foreign = p->searches = p->apart = false;
	*p->sanitizer = '\0';
	if (r < 0)
		return -1;
	p->path = r == 1 ? p->place.path : path;
	p->runs = path;
	look_inside(p, shown ? p->place.visible : path);
	/* The kernel starts the interpreter of a script, unless it could find neither, or only one of them. */
	if (p->interpreter && !shown && resolve_reach(AT_FDCWD, p->interpreter) != REACH_INSIDE) {
		look_at_interpreter(p);
		p->interpreter = NULL;
	}
	return 0;
}

static size_t script_room(char *const *argv)
{
	return (exec_count(argv) + 3) * sizeof *argv;
}

/* As the kernel would call the interpreter: with the path as the program gave it. */
static char *const *script_arguments(const struct program *p, const char *path, char *const *argv, void *room)
{
	char **out = room;
	size_t n = 0;

	out[n++] = p->interpreter;
	if (p->argument)
		out[n++] = p->argument;
	out[n++] = (char *)path;
	for (size_t i = 1; argv && argv[0] && argv[i]; i++)
		out[n++] = argv[i];
	out[n] = NULL;
	return out;
}

/* As deep as the kernel goes from script to script. */
#define SCRIPTS_MAX 5

static int exec(const char *path, const char *script, char *const argv[], char *const envp[], int depth)
{
	struct program p;

	if (find_program(&p, path) < 0)
		return -1;
	if (p.interpreter && SEEN(access)(path, X_OK) == 0) {
		if (depth < SCRIPTS_MAX)
			return exec(p.interpreter, script ? script : path, script_arguments(&p, path, argv, alloca(script_room(argv))),
				    envp, depth + 1);
		errno = ELOOP;
		return -1;
	}
	if (p.apart && start_apart() < 0)
		return -1;
	envp = COMPLETE(WITH_LIBRARIES(envp, p), wanted_first(&p));
	return REAL(execve)(p.path, argv, NAMED(envp, p, script));
}

SHIM int execve(const char *path, char *const argv[], char *const envp[])
{
	return run ? exec(path, NULL, argv, envp, 0) : REAL(execve)(path, argv, WITHOUT_SHIM(envp));
}

SHIM int execv(const char *path, char *const argv[])
{
	return SEEN(execve)(path, argv, environ);
}

/* A path for what lies there: a script's interpreter, which gets another one from the kernel, is not started by it. */
static const char *path_at(int dirfd, const char *path, char out[PATH_MAX])
{
	char link[FD_PATH_SIZE];

	if (*path == '/' || dirfd == AT_FDCWD)
		return path;
	snprintf(out, PATH_MAX, "%s%s%s", fd_path(dirfd, link), *path ? "/" : "", path);
	return out;
}

SHIM int execveat(int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
	char visible[PATH_MAX];
	struct program program;
	bool shared;

	if (!run)
		return REAL(execveat)(dirfd, path, argv, WITHOUT_SHIM(envp), flags);
	if (resolve_reach(dirfd, path) == REACH_INSIDE) {
		int r = resolve_path(&program.place, dirfd, path, USE_READ);

		if (r != 0)
			return r < 0 ? -1 : SEEN(execve)(strcpy(visible, program.place.visible), argv, envp);
	}
	if (!*path && fd_cache_entry_of(dirfd, visible, sizeof visible, &shared))
		return SEEN(execve)(visible, argv, envp);
	if (find_program(&program, path_at(dirfd, path, visible)) < 0 || (program.apart && start_apart() < 0))
		return -1;
	return REAL(execveat)(dirfd, path, argv, COMPLETE(WITH_LIBRARIES(envp, program), wanted_first(&program)), flags);
}

SHIM int fexecve(int fd, char *const argv[], char *const envp[])
{
	return run ? SEEN(execveat)(fd, "", argv, envp, AT_EMPTY_PATH) : REAL(fexecve)(fd, argv, WITHOUT_SHIM(envp));
}

/* A file without a known beginning is a script of the shell. */
static int exec_or_shell(const char *path, char *const argv[], char *const envp[])
{
	char **shell;
	size_t n = exec_count(argv);

	SEEN(execve)(path, argv, envp);
	if (errno != ENOEXEC)
		return -1;
	shell = alloca((n + 3) * sizeof *shell);
	shell[0] = (char *)"/bin/sh";
	shell[1] = (char *)path;
	shell[2] = NULL;
	for (size_t i = 1; i < n; i++) {
		shell[i + 1] = argv[i];
		shell[i + 2] = NULL;
	}
	return SEEN(execve)(shell[0], shell, envp);
}

/* As execvp() of libc: what cannot be executed is passed over, and remembered. */
static int search_and_exec(const char *file, char *const argv[], char *const envp[])
{
	const char *path = getenv("PATH");
	char candidate[PATH_MAX];
	bool denied = false;

	if (!*file) {
		errno = ENOENT;
		return -1;
	}
	if (strchr(file, '/'))
		return exec_or_shell(file, argv, envp);
	for (const char *p = path ? path : "/bin:/usr/bin";;) {
		size_t n = strcspn(p, ":");

		if (snprintf(candidate, sizeof candidate, "%.*s%s%s", (int)n, p, n ? "/" : "", file) < (int)sizeof candidate) {
			exec_or_shell(candidate, argv, envp);
			if (errno == EACCES)
				denied = true;
			else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV && errno != ETIMEDOUT)
				return -1;
		}
		if (!p[n])
			break;
		p += n + 1;
	}
	errno = denied ? EACCES : ENOENT;
	return -1;
}

SHIM int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return run ? search_and_exec(file, argv, envp) : REAL(execvpe)(file, argv, WITHOUT_SHIM(envp));
}

SHIM int execvp(const char *file, char *const argv[])
{
	return run ? search_and_exec(file, argv, environ) : REAL(execvp)(file, argv);
}

/* The arguments up to NULL, in an array on the stack, and what comes after them. */
#define COLLECT(first, ap, argv)                        \
	do {                                            \
		size_t n_ = 1;                          \
		va_list count_;                         \
		va_copy(count_, ap);                    \
		while (va_arg(count_, char *))          \
			n_++;                           \
		va_end(count_);                         \
		argv = alloca((n_ + 1) * sizeof *argv); \
		argv[0] = (char *)first;                \
		for (size_t i_ = 1; i_ <= n_; i_++)     \
			argv[i_] = va_arg(ap, char *);  \
	} while (0)

SHIM int execl(const char *path, const char *first, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, first);
	COLLECT(first, ap, argv);
	va_end(ap);
	return SEEN(execve)(path, argv, environ);
}

SHIM int execlp(const char *file, const char *first, ...)
{
	char **argv;
	va_list ap;

	va_start(ap, first);
	COLLECT(first, ap, argv);
	va_end(ap);
	return SEEN(execvp)(file, argv);
}

SHIM int execle(const char *path, const char *first, ...)
{
	char **argv, *const *envp;
	va_list ap;

	va_start(ap, first);
	COLLECT(first, ap, argv);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return SEEN(execve)(path, argv, envp);
}

/* `path` is for us, from where we are; `given` is for the child. */
static int spawn(pid_t *pid, const char *path, const char *given, const char *script, const posix_spawn_file_actions_t *actions,
		 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[], int depth)
{
	struct program p;

	if (find_program(&p, path) < 0)
		return errno;
	if (p.interpreter && SEEN(access)(path, X_OK) == 0)
		return depth < SCRIPTS_MAX ? spawn(pid, p.interpreter, p.interpreter, script ? script : path, actions, attributes,
						   script_arguments(&p, given, argv, alloca(script_room(argv))), envp, depth + 1)
					   : ELOOP;
	if (p.apart && spawn_apart(actions) < 0)
		return errno;
	envp = COMPLETE(WITH_LIBRARIES(envp, p), wanted_first(&p));
	return REAL(posix_spawn)(pid, p.path == path ? given : p.path, actions, attributes, argv, NAMED(envp, p, script));
}

static APART int spawn_elsewhere(pid_t *pid, const char *given, const posix_spawn_file_actions_t *actions,
				 const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	char path[PATH_MAX];

	return spawn(pid, actions_move(actions, given, path) ? path : given, given, NULL, actions, attributes, argv, envp, 0);
}

SHIM int posix_spawn(pid_t *restrict pid, const char *restrict path, const posix_spawn_file_actions_t *restrict actions,
		     const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const envp[restrict])
{
	if (!run)
		return REAL(posix_spawn)(pid, path, actions, attributes, argv, WITHOUT_SHIM(envp));
	return actions && *path != '/' ? spawn_elsewhere(pid, path, actions, attributes, argv, envp)
				       : spawn(pid, path, path, NULL, actions, attributes, argv, envp, 0);
}

static APART bool can_start(const char *path, const posix_spawn_file_actions_t *actions)
{
	char there[PATH_MAX];
	struct stat st;

	if (actions && *path != '/' && actions_move(actions, path, there))
		path = there;
	return SEEN(stat)(path, &st) == 0 && S_ISREG(st.st_mode) && SEEN(access)(path, X_OK) == 0;
}

SHIM int posix_spawnp(pid_t *restrict pid, const char *restrict file, const posix_spawn_file_actions_t *restrict actions,
		      const posix_spawnattr_t *restrict attributes, char *const argv[restrict], char *const envp[restrict])
{
	const char *path = getenv("PATH");
	char candidate[PATH_MAX];

	if (!run || strchr(file, '/'))
		return run ? SEEN(posix_spawn)(pid, file, actions, attributes, argv, envp)
			   : REAL(posix_spawnp)(pid, file, actions, attributes, argv, WITHOUT_SHIM(envp));
	for (const char *p = path ? path : "/bin:/usr/bin";;) {
		size_t n = strcspn(p, ":");

		if (snprintf(candidate, sizeof candidate, "%.*s%s%s", (int)n, p, n ? "/" : "", file) < (int)sizeof candidate &&
		    can_start(candidate, actions))
			return SEEN(posix_spawn)(pid, candidate, actions, attributes, argv, envp);
		if (!p[n])
			break;
		p += n + 1;
	}
	return REAL(posix_spawnp)(pid, file, actions, attributes, argv, COMPLETE(envp, ""));
}
