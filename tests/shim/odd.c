/* SPDX-License-Identifier: MIT */
/*
 * What programs do that is out of the ordinary, each in a process of its own, on data/f and data/t as calls.c has them. Prints what
 * came of it; it must be the same on files of the disk and in a run.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void say(const char *what, long r)
{
	printf("%s = %ld%s%s\n", what, r, r < 0 ? " " : "", r < 0 ? strerror(errno) : "");
}

#define TRY(call) (errno = 0, say(#call, (long)(call)))

static void show(const char *path)
{
	char text[100] = "";
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);

	printf("    %s: %zd %.*s\n", path, n, (int)strcspn(text, "\n"), fd < 0 ? strerror(errno) : text);
	close(fd);
}

static const char *link_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return path;
}

/* By the kernel's own links to what is open. */

static void magic_write(void)
{
	int fd = open("data/t/a.txt", O_RDONLY), again = open(link_of(fd), O_WRONLY);

	TRY(write(again, "MAGIC", 5));
	close(again);
	show("data/t/a.txt");
	TRY(truncate(link_of(fd), 3));
	TRY(chmod(link_of(fd), 0600));
	show("data/t/a.txt");
	fd = open("data/f", O_RDONLY);
	TRY(truncate(link_of(fd), 2));
	TRY(chmod(link_of(fd), 0600));
	show("data/f");
}

static void magic_cwd(void)
{
	int fd;

	TRY(chdir("data/t"));
	fd = open("/proc/self/cwd/a.txt", O_WRONLY | O_TRUNC);
	TRY(write(fd, "cwd\n", 4));
	show("a.txt");
	show("/proc/self/cwd/sub/b.txt");
	TRY(mkdir("/proc/self/cwd/new", 0700));
	TRY(access("new", F_OK));
}

static void magic_look(void)
{
	char path[PATH_MAX];
	int fd = open("data/t/sub/b.txt", O_RDONLY);
	struct stat st;

	puts(realpath(link_of(fd), path) ? path : strerror(errno));
	fd = open("data/f", O_RDONLY);
	TRY(stat(link_of(fd), &st));
	printf("    %o %ld %ld\n", st.st_mode, (long)st.st_size, (long)st.st_mtime);
	memset(path, 0, sizeof path);
	TRY(readlink(link_of(fd), path, sizeof path - 1));
	puts(path);
	TRY(chdir("data/t"));
	memset(path, 0, sizeof path);
	TRY(readlink("/proc/self/cwd", path, 10));
	puts(path);
}

static void freopen_null(void)
{
	FILE *f = fopen("data/t/a.txt", "r");

	TRY((f = freopen(NULL, "r+", f)) ? 0 : -1);
	fputs("AGAIN", f);
	fclose(f);
	show("data/t/a.txt");
}

static void empty_path(void)
{
	struct timespec times[2] = { { .tv_sec = 5 }, { .tv_sec = 6 } };
	int fd = open("data/t/a.txt", O_RDONLY);
	struct stat st;

	TRY(utimensat(fd, "", times, AT_EMPTY_PATH));
	TRY(fchownat(fd, "", getuid(), getgid(), AT_EMPTY_PATH));
	fstat(fd, &st);
	printf("    %ld\n", (long)st.st_mtime);
	stat("data/t/a.txt", &st);
	printf("    %ld\n", (long)st.st_mtime);
}

/* Each is the first change of its file, by another name or by a call that is newer than some headers. */
static void other_names(void)
{
	int tree = open("data/t", O_RDONLY | O_DIRECTORY), fd = open("data/t/a.txt", O_RDONLY), only = open("data/t/sub/b.txt", O_PATH);
	struct stat st;

	TRY(linkat(fd, "", AT_FDCWD, "data/t/linked", AT_EMPTY_PATH));
	TRY(linkat(only, "", tree, "sub/linked", AT_EMPTY_PATH));
	fd = open("data/t/linked", O_WRONLY | O_APPEND);
	TRY(write(fd, "more", 4));
	show("data/t/a.txt");
	TRY(stat("data/t/sub/b.txt", &st));
	printf("    %d\n", (int)st.st_nlink);
	TRY(syscall(452, tree, "sub/b.txt", 0640, 0)); /* fchmodat2 */
	TRY(syscall(452, only, "", 0604, AT_EMPTY_PATH));
	TRY(stat("data/t/sub/linked", &st));
	printf("    %o\n", st.st_mode);
}

/* Descriptors that change what they are of. */

static void stale_descriptors(void)
{
	FILE *f = fopen("/etc/passwd", "r");
	int tree = open("data/t", O_RDONLY | O_DIRECTORY), again, fd;

	fclose(f);
	again = dup(tree);
	fd = openat(again, "a.txt", O_WRONLY);
	TRY(write(fd, "STALE", 5));
	close(fd);
	TRY(unlinkat(again, "sub/b.txt", 0));
	close(again);
	again = open("/etc", O_RDONLY);
	close_range((unsigned)again, (unsigned)again, 0);
	again = fcntl(tree, F_DUPFD, 0);
	TRY(mkdirat(again, "made", 0700));
	TRY(access("data/t/made", F_OK));
	show("data/t/a.txt");
	show("data/t/sub/b.txt");
}

static void received_descriptor(void)
{
	int pair[2], tree = open("data/t", O_RDONLY | O_DIRECTORY), fd, decoy;
	union {
		struct cmsghdr h;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	char byte = 0;
	struct iovec v = { &byte, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes };
	struct cmsghdr *c;

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &tree, sizeof tree);
	TRY(sendmsg(pair[0], &m, 0));
	decoy = open("/etc", O_RDONLY);
	close(decoy);
	TRY(recvmsg(pair[1], &m, 0));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
	fd = openat(fd, "a.txt", O_WRONLY);
	TRY(write(fd, "RECVD", 5));
	show("data/t/a.txt");
}

static void vfork_child(void)
{
	int tree = open("data/t", O_RDONLY | O_DIRECTORY), fd;

	signal(SIGSEGV, SIG_IGN);
	if (vfork() == 0) {
		close(tree);
		open("/etc", O_RDONLY | O_DIRECTORY);
		chdir("/");
		signal(SIGSEGV, SIG_DFL);
		_exit(0);
	}
	fd = openat(tree, "a.txt", O_WRONLY);
	TRY(write(fd, "VFORK", 5));
	show("data/t/a.txt");
	TRY(raise(SIGSEGV));
}

static void spawned(void)
{
	char *echo[] = { "echo", "spawned", NULL }, *cat[] = { "cat", NULL };
	posix_spawn_file_actions_t a;
	pid_t pid;
	int fd;

	posix_spawn_file_actions_init(&a);
	TRY(posix_spawn_file_actions_addchdir_np(&a, "data/t"));
	TRY(posix_spawn_file_actions_addopen(&a, 1, "a.txt", O_WRONLY | O_CREAT | O_TRUNC, 0600));
	TRY(posix_spawnp(&pid, "echo", &a, NULL, echo, environ));
	waitpid(pid, NULL, 0);
	show("data/t/a.txt");
	posix_spawn_file_actions_destroy(&a);
	posix_spawn_file_actions_init(&a);
	TRY(posix_spawn_file_actions_addopen(&a, 0, "data/f", O_RDONLY, 0));
	fd = open("data/f", O_WRONLY | O_TRUNC);
	TRY(write(fd, "meanwhile\n", 10));
	fflush(NULL);
	TRY(posix_spawnp(&pid, "cat", &a, NULL, cat, environ));
	waitpid(pid, NULL, 0);
	posix_spawn_file_actions_init(&a);
	posix_spawn_file_actions_addopen(&a, 1, "data/f", O_WRONLY | O_TRUNC, 0);
	show("data/f");
}

/* Calls that fail change nothing. */
static void failing(void)
{
	TRY(rename("nonexistent", "data/f"));
	show("data/f");
	mkdir("dir", 0700);
	TRY(rename("dir", "data/f"));
	show("data/f");
	close(open("file", O_CREAT | O_WRONLY, 0600));
	TRY(renameat2(AT_FDCWD, "file", AT_FDCWD, "data/f", RENAME_NOREPLACE));
	show("data/f");
	TRY(open("data/f", O_WRONLY | O_TRUNC | O_DIRECTORY));
	show("data/f");
	rmdir("dir");
	unlink("file");
}

static void replaced_file(void)
{
	int fd = open("data/t/a.txt", O_RDONLY), now;
	struct stat st;

	TRY(fchmod(fd, 0611));
	fstat(fd, &st);
	printf("    %o\n", st.st_mode);
	TRY(unlink("data/t/a.txt"));
	now = open("data/t/a.txt", O_CREAT | O_WRONLY, 0600);
	write(now, "new\n", 4);
	TRY(fchmod(fd, 0777));
	stat("data/t/a.txt", &st);
	printf("    %o\n", st.st_mode);
}

static void by_daemon(void)
{
	struct stat st;

	TRY(chdir("data/t"));
	TRY(daemon(0, 1));
	TRY(stat("etc", &st));
	TRY(stat("a.txt", &st));
}

static int count;

static int visitor(const char *path, const struct stat *st, int type, struct FTW *at)
{
	struct stat again;

	count += stat(path + at->base, &again) == 0 && again.st_ino == st->st_ino;
	(void)type;
	return 0;
}

static void walking_elsewhere(void)
{
	mkdir("elsewhere", 0700);
	mkdir("elsewhere/sub", 0700);
	close(open("elsewhere/sub/x", O_CREAT | O_WRONLY, 0600));
	TRY(chdir("data/t"));
	TRY(nftw("../../elsewhere", visitor, 5, FTW_CHDIR | FTW_PHYS));
	printf("    %d\n", count);
	chdir("../..");
	unlink("elsewhere/sub/x");
	rmdir("elsewhere/sub");
	rmdir("elsewhere");
}

static void renamed_directory(void)
{
	char here[PATH_MAX];
	int fd = open("data/t/sub", O_RDONLY);
	struct stat st;

	TRY(chdir("data/t/sub"));
	TRY(rename("../sub", "../sub2"));
	TRY(stat("b.txt", &st));
	puts(getcwd(here, sizeof here));
	TRY(fstatat(fd, "b.txt", &st, 0));
	TRY(mkdir("../sub", 0700));
	TRY(mkdirat(fd, "in", 0700));
	TRY(access("../sub2/in", F_OK));
	TRY(fchdir(fd));
	puts(getcwd(here, sizeof here));
}

static void directories_above(void)
{
	TRY(rmdir("data"));
	TRY(unlinkat(AT_FDCWD, "data", AT_REMOVEDIR));
	TRY(access("data/f", F_OK));
}

static int count_names(DIR *dir)
{
	int n = 0;

	while (readdir(dir))
		n++;
	return n;
}

static void open_directory(void)
{
	DIR *dir = opendir("data/t");

	printf("%d\n", count_names(dir));
	close(open("data/t/more", O_CREAT | O_WRONLY, 0600));
	unlink("data/t/a.txt");
	unlink("data/t/run");
	rewinddir(dir);
	printf("%d\n", count_names(dir));
	closedir(dir);
	dir = opendir("data");
	long start = telldir(dir);
	printf("%d\n", count_names(dir));
	seekdir(dir, start);
	printf("%d\n", count_names(dir));
}

static int picky(const struct dirent *d)
{
	struct stat st;

	stat("/nonexistent", &st);
	return d->d_name[0] == 'a';
}

static void picky_scandir(void)
{
	struct dirent **names;

	TRY(scandir("data/t", &names, picky, alphasort));
}

static void odd_paths(void)
{
	static const char *const paths[] = {
		"data/t/nodir/../a.txt", "data/nodir/../f",	 "data/t/dang/..", "data/t/a.txt/.", "data/f/.",
		"data/f/../f",		 "data/t/lsub/../a.txt", "data/t/lsub/.",  "data/t/lsub/",   "data/t//sub///b.txt",
		"data/t/dang",		 "data/t/dang/",	 "data/t/up",	   "data/t/up/f",    "data/t/../../data/f"
	};
	struct stat st;

	TRY(symlink("sub", "data/t/lsub"));
	TRY(symlink("nowhere", "data/t/dang"));
	TRY(symlink("..", "data/t/up"));
	TRY(mkdir("data/t/empty", 0700));
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		printf("%s\n", paths[i]);
		TRY(stat(paths[i], &st));
		TRY(lstat(paths[i], &st));
		TRY(access(paths[i], F_OK));
	}
	TRY(rmdir("data/t/empty/."));
	TRY(rmdir("data/t/empty/.."));
	TRY(rmdir("data/t/lsub/"));
	TRY(rename("data/t/lsub/", "data/t/q"));
	TRY(access("data/t/sub/b.txt", F_OK));
	TRY(mkdir("data/t/new/.", 0700));
	TRY(mkdir("data/t/dang/", 0700));
	TRY(mkdir("data/t/new/", 0700));
	TRY(unlink("data/t/lsub/"));
	TRY(rmdir("data/t/empty/"));
}

static void long_paths(void)
{
	static char longest[40000];

	memset(longest, 'x', sizeof longest - 1);
	TRY(link("data/t/a.txt", longest));
	TRY(rename("data/t/a.txt", longest));
	TRY(symlink(longest, "data/t/l"));
	TRY(open(longest, O_RDONLY));
	longest[5999] = '\0';
	TRY(link("data/t/a.txt", longest));
	TRY(link("data/t/a.txt", ""));
	TRY(rename("data/t/a.txt", ""));
	memcpy(longest, "data/t/", 7);
	TRY(open(longest, O_RDONLY));
	longest[4095] = '\0';
	TRY(open(longest, O_RDONLY));
}

static void *in_small_thread(void *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	return (void *)(long)(fd >= 0 && stat(path, &st) == 0);
}

static void small_stacks(void)
{
	static const char *const paths[] = { "data/f", "data/t/a.txt", "data/t/sub/../a.txt", "/etc/../etc/passwd", "../../../etc/passwd" };
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, PTHREAD_STACK_MIN);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		pthread_t one;
		void *r;

		pthread_create(&one, &small, in_small_thread, (void *)paths[i]);
		pthread_join(one, &r);
		printf("%s: %d\n", paths[i], access(paths[i], F_OK) == 0 ? (int)(long)r : -1);
	}
}

static char *canary;

static void on_fault(int sig, siginfo_t *si, void *context)
{
	int spoilt = 0;

	(void)sig, (void)si, (void)context;
	for (int i = 0; i < 4096; i++)
		spoilt += canary[i] != 'c';
	printf("handled, %d bytes spoilt\n", spoilt);
	fflush(NULL);
	_exit(0);
}

static void small_signal_stack(void)
{
	struct sigaction a = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	stack_t stack = { .ss_size = 8192 };

	canary = malloc(4096 + 8192);
	memset(canary, 'c', 4096);
	stack.ss_sp = canary + 4096;
	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &a, NULL);
	*(volatile char *)page = 1;
}

static void *many_systems(void *none)
{
	long good = 0;

	(void)none;
	for (int i = 0; i < 20; i++)
		good += system("true") == 0;
	return (void *)good;
}

static void systems_in_threads(void)
{
	pthread_t all[4];
	long good = 0;
	void *r;
	FILE *f;

	clearenv();
	for (int i = 0; i < 4; i++)
		pthread_create(&all[i], NULL, many_systems, NULL);
	for (int i = 0; i < 4; i++) {
		pthread_join(all[i], &r);
		good += (long)r;
	}
	printf("%ld\n", good);
	TRY(system("exit 3"));
	TRY(system("kill -9 $$"));
	TRY(system(NULL) != 0);
	f = popen("cat; exit 5", "w");
	fputs("to a pipe\n", f);
	TRY(pclose(f));
	TRY(popen("true", "x") ? 0 : -1);
}

static void scripts(void)
{
	char *argv[] = { "x", "y", NULL }, path[PATH_MAX];
	FILE *f = fopen("data/t/selfs", "w");
	pid_t pid;
	int status;

	fprintf(f, "#!%s\n", realpath("data/t/selfs", path));
	fchmod(fileno(f), 0700);
	fclose(f);
	f = fopen("outer", "w");
	fprintf(f, "#!%s with an argument\n", realpath("data/t/run", path));
	fchmod(fileno(f), 0700);
	fclose(f);
	mkfifo("fifo", 0700);
	TRY(execv("data/t/selfs", argv));
	TRY(execv("./fifo", argv));
	TRY(execv("data/t", argv));
	fflush(NULL);
	if ((pid = fork()) == 0) {
		execv("./outer", argv);
		_exit(9);
	}
	waitpid(pid, &status, 0);
	say("a script for a script", status);
	mkdir("bin", 0700);
	mkdir("bin/echo", 0700);
	setenv("PATH", "bin:/usr/bin:/bin", 1);
	TRY(posix_spawnp(&pid, "echo", NULL, NULL, (char *[]){ "echo", "found", NULL }, environ));
	waitpid(pid, &status, 0);
	unlink("outer");
	unlink("fifo");
	rmdir("bin/echo");
	rmdir("bin");
}

static void *lister(void *stop)
{
	while (!*(volatile int *)stop) {
		DIR *dir = opendir("data");

		count_names(dir);
		closedir(dir);
	}
	return NULL;
}

static void forks_while_listing(void)
{
	int stop = 0, good = 0, status;
	pthread_t all[3];

	for (int i = 0; i < 3; i++)
		pthread_create(&all[i], NULL, lister, &stop);
	for (int i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			alarm(20);
			DIR *dir = opendir("data");
			_exit(count_names(dir));
		}
		waitpid(pid, &status, 0);
		good += WIFEXITED(status) && WEXITSTATUS(status) == 4;
	}
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(all[i], NULL);
	printf("%d\n", good);
}

static void flags_of_files(void)
{
	int fd = open("data/t/a.txt", O_RDONLY), flags = FS_NODUMP_FL, now = 0;

	/* Not every file system has them. */
	if (ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0)
		ioctl(fd, FS_IOC_GETFLAGS, &now);
	show("data/t/a.txt");
}

static void nameless_file(void)
{
	int fd = open("data/t", O_TMPFILE | O_RDWR, 0600);

	TRY(write(fd, "named later\n", 12));
	TRY(linkat(AT_FDCWD, link_of(fd), AT_FDCWD, "data/t/named", AT_SYMLINK_FOLLOW));
	show("data/t/named");
}

static void permissions(void)
{
	int fd;

	TRY(chmod("data/t/a.txt", 0600));
	if (geteuid() != 0)
		return;
	TRY(setgid(65534));
	TRY(setuid(65534));
	fd = open("data/t/a.txt", O_RDONLY);
	say("as nobody", fd < 0 ? -1 : 0);
}

/* What the headers forbid, and libc bears. */
static void nulls(void)
{
	char *text, buf[10];
	size_t size;
	FILE *f = open_memstream(&text, &size);

	TRY(closedir(NULL));
	TRY(open(NULL, O_RDONLY));
	TRY(readlink(NULL, buf, sizeof buf));
	TRY(access(NULL, F_OK));
	TRY(stat(NULL, (struct stat *)buf));
	fputs("x", f);
	TRY(fclose(f));
	printf("errno %d\n", errno);
	f = fmemopen(buf, sizeof buf, "r");
	TRY(fclose(f));
	printf("errno %d\n", errno);
}

static void changes_while_listing(void)
{
	DIR *dir = opendir("data/t");
	int n = 0;

	while (readdir(dir)) {
		if (n++ == 0)
			TRY(chmod("data/t/a.txt", 0600));
	}
	printf("%d entries\n", n);
	rewinddir(dir);
	for (n = 0; readdir(dir); n++)
		;
	printf("%d entries again\n", n);
	closedir(dir);
}

static void change_too(int signal)
{
	int saved = errno, fd;

	(void)signal;
	fd = open("data/t/a.txt", O_WRONLY | O_APPEND);
	if (fd >= 0)
		close(fd);
	errno = saved;
}

static pthread_t main_thread;

static void *send_signals(void *stop)
{
	while (!__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE))
		pthread_kill(main_thread, SIGUSR1);
	return NULL;
}

static void changes_in_a_handler(void)
{
	struct sigaction sa = { .sa_handler = change_too };
	pthread_t thread;
	int stop = 0, fd;

	main_thread = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	pthread_create(&thread, NULL, send_signals, &stop);
	TRY(chmod("data/t/sub/b.txt", 0600));
	fd = open("data/f", O_WRONLY | O_APPEND);
	TRY(write(fd, "more", 4));
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	close(fd);
	show("data/t/a.txt");
}

static void *change_and_be_cancelled(void *none)
{
	close(open("data/t/a.txt", O_WRONLY | O_APPEND));
	return none;
}

static void cancelled_changes(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, change_and_be_cancelled, NULL);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	TRY(chmod("data/t/a.txt", 0600));
	show("data/t/a.txt");
}

static void make_script(const char *path, const char *says)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0755);

	dprintf(fd, "#!/bin/sh\necho %s\n", says);
	close(fd);
}

static void spawned_elsewhere(void)
{
	static const char *const programs[] = { "./prog", "./only", "prog", "../run", "./none" };
	posix_spawn_file_actions_t actions;
	char *argv[] = { "prog", NULL };
	int status;
	pid_t pid;

	make_script("data/t/prog", "top");
	make_script("data/t/sub/prog", "deep");
	make_script("data/t/sub/only", "only deep");
	chdir("data/t");
	setenv("PATH", ".:/bin:/usr/bin", 1);
	for (int k = 0; k < 5; k++) {
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_addchdir_np(&actions, "sub");
		fflush(stdout);
		say(programs[k], k == 2 ? posix_spawnp(&pid, programs[k], &actions, NULL, argv, environ)
					: posix_spawn(&pid, programs[k], &actions, NULL, argv, environ));
		if (k < 4)
			waitpid(pid, &status, 0);
		posix_spawn_file_actions_destroy(&actions);
	}
	/* From elsewhere in between, by a descriptor. */
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, "sub");
	posix_spawn_file_actions_addfchdir_np(&actions, open("/bin", O_RDONLY | O_DIRECTORY));
	fflush(stdout);
	say("./echo", posix_spawn(&pid, "./echo", &actions, NULL, (char *[]){ "echo", "from a descriptor", NULL }, environ));
	waitpid(pid, &status, 0);
	/* From elsewhere on the disk, too. */
	chdir("/");
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, "bin");
	fflush(stdout);
	say("./echo", posix_spawn(&pid, "./echo", &actions, NULL, (char *[]){ "echo", "from /bin", NULL }, environ));
	waitpid(pid, &status, 0);
}

static void show_types(const char *path)
{
	static const char *const kinds[] = { [DT_REG] = "file", [DT_DIR] = "directory", [DT_LNK] = "link" };
	DIR *dir = opendir(path);
	struct dirent *d;

	for (const char *name = "ft"; *name; name++) {
		rewinddir(dir);
		while ((d = readdir(dir))) {
			if (d->d_name[0] == *name && !d->d_name[1])
				printf("    %s is a %s\n", d->d_name, kinds[d->d_type]);
		}
	}
	closedir(dir);
}

static void becoming_something_else(void)
{
	int fd;

	TRY(unlink("data/f"));
	TRY(symlink("t/a.txt", "data/f"));
	show("data/f");
	show_types("data");
	TRY(unlink("data/f"));
	TRY(mkdir("data/f", 0755));
	fd = open("data/f/in", O_WRONLY | O_CREAT, 0644);
	TRY(write(fd, "inside", 6));
	close(fd);
	show("data/f/in");
	show_types("data");
	TRY(rename("data/f/in", "data/f/out"));
	TRY(unlink("data/f/out"));
	TRY(rmdir("data/f"));
}

static void numbers_from_400_on(void)
{
	int null = open("/dev/null", O_RDONLY), bad = 0;

	for (int fd = 390; fd < 420; fd++)
		bad += dup2(null, fd) != fd;
	for (int fd = 390; fd < 420; fd++)
		bad += fcntl(fd, F_SETFD, FD_CLOEXEC) < 0;
	for (int fd = 390; fd < 420; fd++)
		bad += close(fd) < 0;
	printf("%d failed\n", bad);
	show("data/f");
	TRY(chmod("data/f", 0600));
	TRY(chmod("data/t/a.txt", 0600));
	show("data/f");
}

static void locked_while_changed(void)
{
	int fd = open("data/t/a.txt", O_RDONLY), status;
	pid_t pid;

	TRY(flock(fd, LOCK_EX));
	TRY(chmod("data/t/sub/b.txt", 0600));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		fd = open("data/t/a.txt", O_RDONLY);
		TRY(flock(fd, LOCK_EX | LOCK_NB));
		exit(0);
	}
	waitpid(pid, &status, 0);
	close(fd);
	fd = open("data/f", O_RDONLY);
	TRY(flock(fd, LOCK_EX));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		fd = open("data/f", O_RDWR);
		TRY(flock(fd, LOCK_EX | LOCK_NB));
		exit(0);
	}
	waitpid(pid, &status, 0);
}

/* By somebody else, since it was opened: it cannot be followed, but locked. */
static void locked_after_a_change(void)
{
	int fd = open("data/t/a.txt", O_RDONLY), status;

	if (fork() == 0) {
		int own = open("data/t/a.txt", O_WRONLY | O_APPEND);

		exit(write(own, "more", 4) == 4 ? 0 : 1);
	}
	wait(&status);
	TRY(status);
	TRY(flock(fd, LOCK_EX));
	TRY(flock(fd, LOCK_UN));
}

static void another_root(void)
{
	printf("ftok %d\n", ftok("data/f", 1) != -1 && ftok("data/t/a.txt", 1) != -1);
	TRY(ftok("data/none", 1));
	if (geteuid() != 0)
		return;
	TRY(chroot("data/t"));
	show("/a.txt");
	show("/sub/b.txt");
}

/* As libuv does it. */
static void calls_by_number(void)
{
	struct statx x;
	struct stat st;
	char text[100] = "";
	int fd;

	TRY(syscall(SYS_statx, AT_FDCWD, "data/f", 0, STATX_BASIC_STATS, &x));
	printf("%o %llu\n", x.stx_mode, (unsigned long long)x.stx_size);
	TRY(syscall(SYS_statx, AT_FDCWD, "data/t/none", 0, STATX_BASIC_STATS, &x));
	TRY(syscall(SYS_newfstatat, AT_FDCWD, "data/t/a.txt", &st, 0));
	printf("%o %ld\n", st.st_mode, (long)st.st_size);
	fd = (int)syscall(SYS_openat, AT_FDCWD, "data/f", O_RDWR | O_APPEND, 0);
	TRY(syscall(SYS_write, fd, "more\n", 5));
	TRY(syscall(SYS_fstat, fd, &st));
	printf("%o %ld\n", st.st_mode, (long)st.st_size);
	TRY(syscall(SYS_close, fd));
	TRY(syscall(SYS_readlinkat, AT_FDCWD, "data/t/sub/link", text, sizeof text));
	puts(text);
	TRY(syscall(SYS_faccessat, AT_FDCWD, "data/t/a.txt", W_OK));
	TRY(syscall(SYS_mkdirat, AT_FDCWD, "data/t/new", 0755));
	TRY(syscall(SYS_renameat2, AT_FDCWD, "data/t/a.txt", AT_FDCWD, "data/t/new/a", 0));
	TRY(syscall(SYS_symlinkat, "new/a", AT_FDCWD, "data/t/a.txt"));
	show("data/t/a.txt");
	TRY(syscall(SYS_unlinkat, AT_FDCWD, "data/t/a.txt", 0));
	TRY(syscall(SYS_fchmodat, AT_FDCWD, "data/t/run", 0700));
	fd = open("data/t/sub/b.txt", O_RDONLY);
	TRY(syscall(SYS_fchmod, fd, 0600));
	TRY(syscall(SYS_flock, fd, LOCK_EX));
	TRY(syscall(SYS_fcntl, fd, F_GETFD));
	close(fd);
#ifdef SYS_creat
	fd = (int)syscall(SYS_creat, "data/t/made", 0644);
	TRY(syscall(SYS_close, fd));
	TRY(syscall(SYS_chmod, "data/t/made", 0604));
	TRY(syscall(SYS_link, "data/t/made", "data/t/again"));
	TRY(syscall(SYS_lchown, "data/t/made", -1, -1));
	TRY(syscall(SYS_stat, "data/t/again", &st));
	printf("%o %ld\n", st.st_mode, (long)st.st_nlink);
#endif
	TRY(syscall(SYS_chdir, "data/t/new"));
	TRY(syscall(SYS_getcwd, text, sizeof text) > 0);
	puts(strrchr(text, '/'));
	TRY(syscall(SYS_getcwd, NULL, sizeof text));
	TRY(syscall(SYS_getcwd, text, 1));
	show("a");
	TRY(syscall(SYS_gettid) == getpid());
}

/* clang-format off */
#define CASE(name) { #name, name }
static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	CASE(magic_write), CASE(magic_cwd), CASE(magic_look), CASE(freopen_null), CASE(empty_path), CASE(other_names), CASE(stale_descriptors),
	CASE(received_descriptor), CASE(vfork_child), CASE(spawned), CASE(failing), CASE(replaced_file), CASE(by_daemon),
	CASE(walking_elsewhere), CASE(renamed_directory), CASE(directories_above), CASE(open_directory), CASE(picky_scandir),
	CASE(odd_paths), CASE(long_paths), CASE(small_stacks), CASE(small_signal_stack), CASE(systems_in_threads), CASE(scripts),
	CASE(forks_while_listing), CASE(flags_of_files), CASE(nameless_file), CASE(permissions),
	CASE(nulls), CASE(changes_while_listing), CASE(changes_in_a_handler), CASE(cancelled_changes), CASE(spawned_elsewhere),
	CASE(becoming_something_else), CASE(numbers_from_400_on), CASE(locked_while_changed), CASE(locked_after_a_change), CASE(another_root), CASE(calls_by_number),
};
/* clang-format on */

/* odd NAME */
int main(int argc, char **argv)
{
	umask(022);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (argc == 2 && !strcmp(argv[1], cases[i].name)) {
			cases[i].run();
			return 0;
		}
		if (argc == 1)
			puts(cases[i].name);
	}
	return argc == 1 ? 0 : 2;
}
