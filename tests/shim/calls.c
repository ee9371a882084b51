/* SPDX-License-Identifier: MIT */
/*
 * Calls every function that the shim stands in front of, on a file (data/f) and a tree (data/t), and prints what came of it. Run
 * on files of the disk and in a run, it must print the same.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

static int step;

static void say(const char *what, long result)
{
	int err = errno;

	printf("%3d %s = %ld%s%s\n", ++step, what, result, result < 0 ? " " : "", result < 0 ? strerror(err) : "");
	errno = 0;
}

#define TRY(call)                         \
	do {                              \
		errno = 0;                \
		say(#call, (long)(call)); \
	} while (0)

/* Descriptors have numbers of their own. */
#define OPEN(call)                            \
	({                                    \
		errno = 0;                    \
		int fd_ = (call);             \
		say(#call, fd_ < 0 ? -1 : 0); \
		fd_;                          \
	})

static void show(const char *path)
{
	char text[200] = "";
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

	printf("    %s: %zu %.*s\n", path, n, (int)strcspn(text, "\n"), f ? text : strerror(errno));
	if (f)
		fclose(f);
}

static void show_fd(int fd)
{
	char text[100] = "";
	ssize_t n = pread(fd, text, sizeof text - 1, 0);

	printf("    fd: %zd %.*s at %ld\n", n, (int)strcspn(text, "\n"), text, (long)lseek(fd, 0, SEEK_CUR));
}

static void show_stat(const char *what, int r, const struct stat *st)
{
	if (r < 0)
		printf("    %s: %s\n", what, strerror(errno));
	else
		printf("    %s: mode %o uid %d gid %d links %d size %ld mtime %ld.%ld\n", what, st->st_mode, (int)st->st_uid,
		       (int)st->st_gid, S_ISDIR(st->st_mode) ? 0 : (int)st->st_nlink, S_ISDIR(st->st_mode) ? 0L : (long)st->st_size,
		       S_ISREG(st->st_mode) ? (long)st->st_mtim.tv_sec : 0, S_ISREG(st->st_mode) ? (long)st->st_mtim.tv_nsec : 0);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path)
{
	char *names[100];
	size_t n = 0;
	struct dirent *d;
	DIR *dir = opendir(path);

	printf("    %s:", path);
	while (dir && n < 100 && (errno = 0, d = readdir(dir)))
		names[n++] = strdup(d->d_name);
	if (!dir || errno)
		printf(" %s", strerror(errno));
	qsort(names, n, sizeof *names, by_text);
	for (size_t i = 0; i < n; i++) {
		printf(" %s", names[i]);
		free(names[i]);
	}
	putchar('\n');
	if (dir)
		closedir(dir);
}

static void opening(void)
{
	int fd = OPEN(open("data/f", O_RDONLY)), other;
	char buf[10];

	show_fd(fd);
	other = OPEN(open("data/f", O_RDONLY | O_CLOEXEC));
	TRY(read(fd, buf, 5));
	show_fd(other);
	TRY(close(other));
	TRY(write(fd, "x", 1));
	TRY(ftruncate(fd, 0));
	TRY(lseek(fd, 0, SEEK_END));
	TRY(fcntl(fd, F_GETFL) & O_ACCMODE);
	close(fd);
	OPEN(open("data/f", O_RDONLY | O_CREAT | O_EXCL, 0600));
	OPEN(open("data/f", O_RDONLY | O_DIRECTORY));
	OPEN(open("data/f/", O_RDONLY));
	OPEN(open("data/f/x", O_RDONLY));
	OPEN(open("data/none", O_RDONLY));
	OPEN(open("data/t", O_RDWR));
	OPEN(open("data/t/none/x", O_WRONLY | O_CREAT, 0600));
	OPEN(open("data/t/a.txt/", O_RDONLY));
	OPEN(open("data/t/sub/link", O_RDONLY | O_NOFOLLOW));
	OPEN(open("", O_RDONLY));
	close(OPEN(open("data/f", O_RDONLY | O_NOFOLLOW)));
	close(OPEN(open("data/f", O_PATH)));
	close(OPEN(open("data/t/../f", O_RDONLY)));
	close(OPEN(open("./data//t/./sub/../a.txt", O_RDONLY)));
	close(OPEN(open("data/t/sub/link", O_RDONLY)));
	fd = OPEN(open("data/t", O_RDONLY | O_DIRECTORY));
	show_fd(other = OPEN(openat(fd, "sub/b.txt", O_RDONLY)));
	close(other);
	show_fd(other = OPEN(openat(fd, "../f", O_RDONLY)));
	close(other);
	OPEN(openat(fd, "nothing", O_RDONLY));
	close(fd);
	fd = OPEN(open("data", O_RDONLY));
	show_fd(other = OPEN(openat(fd, "f", O_RDONLY)));
	close(other);
	show_fd(other = OPEN(openat(fd, "t/a.txt", O_RDONLY)));
	close(other);
	other = OPEN(dup(fd));
	close(fd);
	show_fd(fd = OPEN(openat(other, "t/sub/link", O_RDONLY)));
	close(fd);
	close(other);
}

static void looking(void)
{
	static const char *const paths[] = { "data/f",	  "data/t",   "data/t/a.txt", "data/t/sub/link",
					     "data/none", "data/f/x", "data/t/run",   "data" };
	struct stat st;
	struct statx x;
	struct statvfs vfs;
	char buf[PATH_MAX];
	ssize_t n;
	int fd;

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		const char *p = paths[i];

		printf("%s\n", p);
		show_stat("stat", stat(p, &st), &st);
		show_stat("lstat", lstat(p, &st), &st);
		show_stat("fstatat", fstatat(AT_FDCWD, p, &st, AT_SYMLINK_NOFOLLOW), &st);
		memset(&x, 0, sizeof x);
		TRY(statx(AT_FDCWD, p, 0, STATX_BASIC_STATS, &x));
		printf("    statx: %o %ld %ld\n", x.stx_mode, S_ISREG(x.stx_mode) ? (long)x.stx_size : 0,
		       S_ISREG(x.stx_mode) ? (long)x.stx_mtime.tv_sec : 0);
		TRY(access(p, F_OK));
		TRY(access(p, R_OK | W_OK));
		TRY(access(p, X_OK));
		TRY(faccessat(AT_FDCWD, p, R_OK, AT_EACCESS));
		TRY(eaccess(p, W_OK));
		n = readlink(p, buf, sizeof buf);
		say("readlink", n);
		if (n > 0)
			printf("    %.*s\n", (int)n, buf);
		puts(realpath(p, buf) ? buf : strerror(errno));
		TRY(statvfs(p, &vfs));
		TRY(getxattr(p, "user.none", buf, sizeof buf));
		if (strcmp(p, "data")) /* one that was made has a mark */
			TRY(listxattr(p, buf, sizeof buf));
		TRY(pathconf(p, _PC_NAME_MAX));
	}
	fd = OPEN(open("data/f", O_RDONLY));
	show_stat("fstat", fstat(fd, &st), &st);
	show_stat("fstatat", fstatat(fd, "", &st, AT_EMPTY_PATH), &st);
	TRY(statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &x));
	printf("    statx: %o %ld\n", x.stx_mode, (long)x.stx_size);
	snprintf(buf, sizeof buf, "/proc/self/fd/%d", fd);
	n = readlink(buf, buf, sizeof buf);
	printf("    %.*s\n", (int)n, buf);
	close(fd);
	fd = OPEN(open("data/t/sub", O_RDONLY));
	show_stat("fstatat", fstatat(fd, "b.txt", &st, 0), &st);
	show_stat("fstatat", fstatat(fd, "../a.txt", &st, 0), &st);
	show_stat("fstatat", fstatat(fd, "../../f", &st, 0), &st);
	snprintf(buf, sizeof buf, "/proc/self/fd/%d", fd);
	n = readlink(buf, buf, sizeof buf);
	printf("    %.*s\n", (int)n, buf);
	close(fd);
}

static int visitor(const char *path, const struct stat *st, int type, struct FTW *at)
{
	printf("    %d %s %d %d %ld\n", type, path, at->base, at->level, S_ISREG(st->st_mode) ? (long)st->st_size : 0);
	return 0;
}

static int old_visitor(const char *path, const struct stat *st, int type)
{
	(void)st;
	return strstr(path, "none") ? 77 : type < 0;
}

static int not_dots(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

static void walk_fts(const char *path, int options)
{
	char *paths[] = { (char *)path, NULL };
	FTS *fts = fts_open(paths, options, by_name);
	FTSENT *e;

	while (fts && (e = fts_read(fts))) {
		printf("    %d %s %s %d %d %ld\n", e->fts_info, e->fts_path, e->fts_name, e->fts_level, (int)e->fts_pathlen,
		       S_ISREG(e->fts_statp->st_mode) ? (long)e->fts_statp->st_size : 0);
		if (!strcmp(e->fts_name, "sub") && e->fts_info == FTS_D && (options & FTS_SEEDOT))
			fts_set(fts, e, FTS_SKIP);
	}
	TRY(fts ? fts_close(fts) : -1);
}

static void listing(void)
{
	struct dirent **names;
	glob_t g;
	DIR *dir;
	int n, fd;

	list("data");
	list("data/t");
	list("data/t/sub/..");
	list("data/f");
	list("data/none");
	n = scandir("data/t", &names, not_dots, alphasort);
	say("scandir", n);
	for (int i = 0; i < n; i++) {
		printf("    %s %d\n", names[i]->d_name, names[i]->d_type);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	n = scandir("data", &names, not_dots, alphasort);
	say("scandir", n);
	for (int i = 0; i < n; i++) {
		printf("    %s %d\n", names[i]->d_name, names[i]->d_type);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	static const char *const patterns[] = { "data/*", "data/t/*.txt",     "data/t/*/*", "*/t/s*", "data/{f,t}", "{data/t,none}/*.txt",
						"none/*", "data/t/sub/[ab]*", "./data/f*" };
	for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
		n = glob(patterns[i], GLOB_BRACE | GLOB_MARK, NULL, &g);
		printf("%s: %d", patterns[i], n);
		for (size_t k = 0; n == 0 && k < g.gl_pathc; k++)
			printf(" %s", g.gl_pathv[k]);
		putchar('\n');
		if (n == 0)
			globfree(&g);
	}
	fd = OPEN(open("data", O_RDONLY | O_DIRECTORY));
	dir = fdopendir(fd);
	n = 0;
	while (readdir(dir))
		n++;
	rewinddir(dir);
	while (readdir(dir))
		n++;
	say("readdir and again", n);
	TRY(closedir(dir));
	walk_fts("data/t", FTS_PHYSICAL | FTS_NOCHDIR);
	walk_fts("data", FTS_LOGICAL | FTS_NOCHDIR);
	walk_fts("data", FTS_PHYSICAL | FTS_NOCHDIR | FTS_SEEDOT);
	walk_fts("data/t/sub/link", FTS_PHYSICAL | FTS_NOCHDIR | FTS_COMFOLLOW);
	TRY(ftw("data", old_visitor, 10));
	TRY(nftw("data/f", visitor, 10, FTW_PHYS));
	TRY(nftw("data/none", visitor, 10, FTW_PHYS));
}

static int collect_n;
static char *collected[200];

static int collect(const char *path, const struct stat *st, int type, struct FTW *at)
{
	char line[PATH_MAX + 50];

	(void)st;
	snprintf(line, sizeof line, "%d %d %d %s", type, at->base, at->level, path);
	collected[collect_n++] = strdup(line);
	return 0;
}

/* The order of names is nobody's promise. */
static void walk_nftw(const char *path, int flags)
{
	int r;

	collect_n = 0;
	r = nftw(path, collect, 10, flags);
	printf("nftw %s %d = %d\n", path, flags, r);
	qsort(collected, (size_t)collect_n, sizeof *collected, by_text);
	for (int i = 0; i < collect_n; i++) {
		printf("    %s\n", collected[i]);
		free(collected[i]);
	}
}

static void streams(void)
{
	char line[100];
	FILE *f;

	TRY((f = fopen("data/f", "r")) ? 0 : -1);
	puts(fgets(line, sizeof line, f) ? line : "nothing");
	TRY((f = freopen("data/t/a.txt", "r", f)) ? 0 : -1);
	puts(fgets(line, sizeof line, f) ? line : "nothing");
	fclose(f);
	TRY(fopen("data/none", "r") ? 0 : -1);
	TRY(fopen("data/t", "w") ? 0 : -1);
	TRY(fopen("data/f", "wx") ? 0 : -1);
	TRY(fopen("data/f", "q") ? 0 : -1);
	TRY((f = fopen("data/t/new", "w+")) ? 0 : -1);
	fputs("new words\n", f);
	rewind(f);
	puts(fgets(line, sizeof line, f) ? line : "nothing");
	TRY((f = freopen("data/t/new", "a", f)) ? 0 : -1);
	fputs("and more\n", f);
	fclose(f);
	show("data/t/new");
	TRY((f = fopen("data/t/a.txt", "r+")) ? 0 : -1);
	fputs("HE", f);
	fclose(f);
	show("data/t/a.txt");
	TRY((f = fopen("data/f", "a")) ? 0 : -1);
	fputs("appended\n", f);
	fclose(f);
	show("data/f");
	TRY(unlink("data/t/new"));
}

static void changing(bool through_links)
{
	struct timespec times[2] = { { .tv_sec = 1000, .tv_nsec = 5 }, { .tv_sec = 2000, .tv_nsec = 6 } };
	struct timeval old[2] = { { .tv_sec = 3000 }, { .tv_sec = 4000, .tv_usec = 7 } };
	struct utimbuf older = { .actime = 5000, .modtime = 6000 };
	char name[100], buf[PATH_MAX], *p;
	struct stat st;
	ssize_t n;
	int fd, dir;

	fd = OPEN(open("data/f", O_RDWR));
	TRY(pwrite(fd, "FIRST", 5, 0));
	show_fd(fd);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	say("mmap", p == MAP_FAILED ? -1 : 0);
	memcpy(p, "mapped", 6);
	TRY(munmap(p, 4096));
	show("data/f");
	TRY(fchmod(fd, 0640));
	TRY(ftruncate(fd, 8));
	TRY(futimens(fd, times));
	show_stat("fstat", fstat(fd, &st), &st);
	close(fd);
	TRY(truncate("data/f", 3));
	show("data/f");
	TRY(truncate("data/none", 3));
	TRY(truncate("data/t", 3));
	fd = OPEN(open("data/t/sub/b.txt", O_RDONLY));
	TRY(fchmod(fd, 0600));
	TRY(futimes(fd, old));
	close(fd);
	show_stat("stat", stat("data/t/sub/b.txt", &st), &st);
	TRY(utimensat(AT_FDCWD, "data/t/a.txt", times, 0));
	TRY(utimes("data/f", old));
	TRY(utime("data/t/sub/b.txt", &older));
	TRY(lutimes("data/t/sub/link", old));
	show_stat("stat", stat("data/t/a.txt", &st), &st);
	TRY(chmod("data/t/a.txt", 0400));
	TRY(fchmodat(AT_FDCWD, "data/t/a.txt", 0644, 0));
	TRY(chown("data/t/a.txt", getuid(), getgid()));
	TRY(lchown("data/t/sub/link", -1, -1));
	TRY(chmod("data/none", 0600));
	TRY(mkdir("data/t/made", 0750));
	TRY(mkdir("data/t/made", 0750));
	TRY(mkdir("data/t", 0750));
	TRY(mkdir("data/f", 0750));
	TRY(rmdir("data/t/sub"));
	TRY(rmdir("data/f"));
	TRY(unlink("data/t/made"));
	TRY(rename("data/t/a.txt", "data/t/made/a.txt"));
	TRY(rename("data/t/none", "data/t/made/x"));
	TRY(rename("data/t/made", "data/f"));
	TRY(rename("data/f", "data/t/made"));
	TRY(renameat(AT_FDCWD, "data/t/sub/b.txt", AT_FDCWD, "data/t/b"));
	TRY(renameat2(AT_FDCWD, "data/t/b", AT_FDCWD, "data/t/made/a.txt", RENAME_NOREPLACE));
	TRY(link("data/t/b", "data/t/made/hard"));
	TRY(link("data/t/none", "data/t/made/hard2"));
	TRY(link("data/t/b", "data/t/made/hard"));
	show_stat("stat", stat("data/t/b", &st), &st);
	TRY(symlink("../b", "data/t/made/soft"));
	TRY(symlink("../b", "data/t/made/soft"));
	TRY(symlink(realpath("data/t/b", buf), "data/t/made/absolute"));
	if (through_links)
		TRY(symlink("../../f", "data/t/made/out"));
	TRY(symlink("round", "data/t/made/round"));
	show("data/t/made/soft");
	show("data/t/made/absolute");
	if (through_links)
		show("data/t/made/out");
	show("data/t/made/round");
	show("data/t/made/soft/../a.txt");
	list("data/t/made");
	TRY(unlink("data/t/made/round"));
	dir = OPEN(open("data/t", O_RDONLY));
	TRY(mkdirat(dir, "at", 0700));
	TRY(symlinkat("../made/a.txt", dir, "at/link"));
	n = readlinkat(dir, "at/link", buf, sizeof buf);
	printf("    %.*s\n", (int)n, buf);
	TRY(linkat(dir, "b", dir, "at/hard", 0));
	TRY(unlinkat(dir, "at/hard", 0));
	TRY(fchownat(dir, "b", getuid(), getgid(), 0));
	fd = OPEN(openat(dir, "at/file", O_WRONLY | O_CREAT | O_EXCL, 0600));
	TRY(write(fd, "at\n", 3));
	close(fd);
	show("data/t/at/file");
	TRY(unlinkat(dir, "at", AT_REMOVEDIR));
	TRY(unlinkat(dir, "at/file", 0));
	TRY(unlinkat(dir, "at/link", 0));
	TRY(unlinkat(dir, "at", AT_REMOVEDIR));
	close(dir);
	strcpy(name, "data/t/tmpXXXXXX");
	fd = OPEN(mkstemp(name));
	printf("    %d %d %d\n", !strncmp(name, "data/t/tmp", 10), strcmp(name + 10, "XXXXXX") != 0, access(name, F_OK));
	close(fd);
	TRY(remove(name));
	strcpy(name, "data/t/tmpXXXXXX.c");
	fd = OPEN(mkstemps(name, 2));
	printf("    %d %d\n", !strcmp(name + 16, ".c"), access(name, F_OK));
	close(fd);
	unlink(name);
	strcpy(name, "data/t/tmpXXXXXX");
	fd = OPEN(mkostemp(name, O_CLOEXEC));
	TRY(fcntl(fd, F_GETFD));
	close(fd);
	unlink(name);
	strcpy(name, "data/t/tmpXXXXXX");
	say("mkdtemp", mkdtemp(name) ? 0 : -1);
	TRY(rmdir(name));
	TRY(mkfifo("data/t/fifo", 0600));
	TRY(remove("data/t/fifo"));
	fd = OPEN(open("data/t", O_TMPFILE | O_RDWR, 0600));
	close(fd);
	fd = OPEN(creat("data/t/b", 0600));
	close(fd);
	show("data/t/b");
	/* To and from elsewhere. */
	TRY(rename("data/t/made/a.txt", "elsewhere"));
	show("elsewhere");
	TRY(rename("elsewhere", "data/t/back"));
	show("data/t/back");
	show("elsewhere");
	TRY(rename("data/f", "data/was-f"));
	show("data/f");
	list("data");
	TRY(rename("data/was-f", "data/f"));
	show("data/f");
	TRY(unlink("data/f"));
	TRY(unlink("data/f"));
	TRY(access("data/f", F_OK));
	list("data");
	fd = OPEN(open("data/f", O_WRONLY | O_CREAT | O_EXCL, 0604));
	TRY(write(fd, "again\n", 6));
	close(fd);
	TRY(utimensat(AT_FDCWD, "data/f", times, 0));
	show_stat("stat", stat("data/f", &st), &st);
	show("data/f");
	list("data");
}

static void moving(void)
{
	char buf[PATH_MAX];
	int fd = OPEN(open("data/t/sub", O_RDONLY));

	TRY(chdir("data/f"));
	TRY(chdir("data/t/none"));
	TRY(chdir("data/t/sub"));
	puts(getcwd(buf, sizeof buf));
	TRY(getcwd(buf, 3) ? 0 : -1);
	puts(realpath(".", buf));
	puts(realpath("..", buf));
	puts(realpath("../../f", buf));
	show("../a.txt");
	show("../../f");
	list(".");
	list("../..");
	TRY(chdir(".."));
	puts(getcwd(buf, sizeof buf));
	TRY(chdir(".."));
	puts(getcwd(buf, sizeof buf));
	show("f");
	show("t/a.txt");
	TRY(fchdir(fd));
	puts(getcwd(buf, sizeof buf));
	TRY(mkdir("inside", 0700));
	TRY(chdir("inside"));
	puts(getcwd(buf, sizeof buf));
	show("../../a.txt");
	TRY(chdir("../../../.."));
	TRY(rmdir("data/t/sub/inside"));
	show("data/f");
	close(fd);
}

extern char **environ;

static void run(const char *what, pid_t pid)
{
	int status = -1;

	fflush(NULL);
	if (pid > 0)
		waitpid(pid, &status, 0);
	printf("%s: %d\n", what, status);
	fflush(NULL);
}

static void starting(void)
{
	char *cat[] = { "cat", "data/f", "data/t/sub/link", NULL }, *script[] = { "run", "one", "two", NULL }, *none[] = { NULL };
	posix_spawn_file_actions_t actions;
	char line[100];
	pid_t pid;
	FILE *f;
	int r;

	fflush(NULL);
	if ((pid = fork()) == 0) {
		execv("/bin/cat", cat);
		_exit(1);
	}
	run("execv", pid);
	if ((pid = fork()) == 0) {
		execve("/bin/cat", cat, none);
		_exit(1);
	}
	run("execve with nothing", pid);
	if ((pid = vfork()) == 0) {
		execlp("cat", "cat", "data/f", (char *)NULL);
		_exit(1);
	}
	run("vfork and execlp", pid);
	if ((pid = vfork()) == 0) {
		if (chdir("data/t") == 0)
			execl("/bin/ls", "ls", "sub", "..", (char *)NULL);
		_exit(1);
	}
	run("vfork, chdir and execl", pid);
	show("data/f");
	fflush(NULL);
	if ((pid = fork()) == 0) {
		execle("data/t/run", "data/t/run", "x", (char *)NULL, none);
		_exit(1);
	}
	run("execle of a script", pid);
	if ((pid = fork()) == 0) {
		execvpe("data/t/run", script, environ);
		_exit(1);
	}
	run("execvpe of a script", pid);
	if ((pid = fork()) == 0) {
		execv("data/t/a.txt", script);
		perror("execv of no program");
		_exit(1);
	}
	run("execv of no program", pid);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "data/t/a.txt", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&actions, 1, "data/t/spawned", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	fflush(NULL);
	r = posix_spawnp(&pid, "cat", &actions, NULL, (char *[]){ "cat", NULL }, none);
	run("posix_spawnp", r ? -1 : pid);
	say("posix_spawnp", r);
	posix_spawn_file_actions_destroy(&actions);
	show("data/t/spawned");
	fflush(NULL);
	r = posix_spawn(&pid, "data/t/run", NULL, NULL, script, environ);
	run("posix_spawn", r ? -1 : pid);
	say("posix_spawn", r);
	say("posix_spawn", posix_spawn(&pid, "data/t/none", NULL, NULL, script, environ));
	clearenv();
	fflush(NULL);
	TRY(system("cat data/f data/t/sub/link"));
	f = popen("cat data/t/sub/b.txt", "r");
	puts(f && fgets(line, sizeof line, f) ? line : "nothing");
	TRY(pclose(f));
	setenv("PATH", "/usr/bin:/bin", 1);
}

static void *in_thread(void *path)
{
	for (int i = 0; i < 200; i++) {
		int fd = open(path, O_RDONLY);
		struct stat st;
		char buf[5];

		if (fd < 0 || read(fd, buf, 5) != 5 || stat(path, &st) < 0)
			return "failed";
		close(fd);
		snprintf(buf, sizeof buf, "%d", i);
	}
	return "well";
}

static void *writing_thread(void *path)
{
	int fd = open(path, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, "thread\n", 7) != 7)
		return "failed";
	close(fd);
	return "well";
}

static void threads(void)
{
	pthread_t all[8];
	pthread_attr_t small;
	void *said;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 256 << 10);
	for (int i = 0; i < 8; i++)
		pthread_create(&all[i], &small, i % 4 == 3 ? writing_thread : in_thread, i % 2 ? "data/t/a.txt" : "data/f");
	for (int i = 0; i < 8; i++) {
		pthread_join(all[i], &said);
		puts(said);
	}
	show("data/t/a.txt");
}

static void descriptors(void)
{
	int fd = OPEN(open("data/f", O_RDONLY));

	TRY(dup2(fd, 50));
	show_fd(50);
	TRY(close_range(3, ~0U, 0));
	TRY(read(50, &fd, 1));
	show("data/f");
	closefrom(3);
	show("data/t/a.txt");
	for (fd = 3; fd < 2000; fd++)
		close(fd);
	TRY(close(1000));
	TRY(close(-1));
	show("data/f");
	for (fd = 3; fd < 2000; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	fflush(NULL);
	TRY(system("cat data/f"));
	list("data");
}

/* With an argument: not through links from a tree to a file that is shown elsewhere. */
int main(int argc, char **argv)
{
	(void)argv;
	umask(022);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	opening();
	looking();
	listing();
	walk_nftw("data", FTW_PHYS);
	walk_nftw("data", FTW_PHYS | FTW_DEPTH);
	walk_nftw("data/t/", 0);
	walk_nftw("data/t", FTW_PHYS | FTW_CHDIR);
	moving();
	threads();
	starting();
	streams();
	changing(argc == 1);
	moving();
	looking();
	listing();
	descriptors();
	starting();
	return 0;
}
