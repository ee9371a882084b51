/* SPDX-License-Identifier: MIT */
/*
 * Gives every call that takes a path each odd path, and prints the error of each. The paths are relative to a directory that is
 * made anew after each call that has succeeded: its contents are the files of make_all(). With a list of what has failed before
 * only that is tried, and nothing is made.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

static int base;	 /* the directory of the files */
static const char *root; /* its absolute path */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return at->level ? remove(path) : 0;
}

static void make_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0644);

	if (fd < 0 || write(fd, "hello\n", 6) != 6)
		perror(name);
	close(fd);
}

static void make_all(void)
{
	if (fchdir(base) < 0 || nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		perror(root);
	make_file("file");
	mkdir("empty", 0755);
	mkdir("full", 0755);
	make_file("full/in");
	mkdir("full/sub", 0755);
	mkdir("full/sub/deep", 0755);
	symlink("file", "link");
	symlink("full", "way");
	symlink("none", "dangling");
	symlink("loop", "loop");
	symlink("file/x", "broken");
}

#define LONG                                                                                                                                 \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789" \
	"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"

static char too_long[PATH_MAX + 8], almost[PATH_MAX];

static const char *const paths[] = {
	"",
	".",
	"..",
	"./",
	"file",
	"file/",
	"file/.",
	"file/..",
	"file/x",
	"file/x/y",
	"file/../file",
	"empty",
	"empty/",
	"empty/.",
	"empty/..",
	"full",
	"full/",
	"full/.",
	"full/in",
	"full/in/",
	"full/in/x",
	"full/sub",
	"full/sub/",
	"full/sub/deep",
	"full/sub/deep/..",
	"full/none",
	"full/sub/new/",
	"none",
	"none/",
	"none/.",
	"none/..",
	"none/x",
	"link",
	"link/",
	"link/x",
	"way",
	"way/",
	"way/.",
	"way/..",
	"way/in",
	"way/none",
	"dangling",
	"dangling/",
	"dangling/x",
	"loop",
	"loop/",
	"loop/x",
	"loop/..",
	"broken",
	"broken/",
	LONG,
	LONG "/x",
	"full/" LONG,
	"none/" LONG,
	too_long,
	almost,
};

#define ELEMENTS(a) (sizeof(a) / sizeof *(a))

static int opened(int fd)
{
	return fd < 0 ? -1 : close(fd);
}

static int closed(void *dir)
{
	return dir ? closedir(dir) : -1;
}

static int freed(void *text)
{
	free(text);
	return text ? 0 : -1;
}

static int streamed(FILE *f)
{
	return f ? fclose(f) : -1;
}

static int gone(const char *p)
{
	return chdir(p) < 0 ? -1 : fchdir(base);
}

static int bound(const char *p, bool connects)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), r, err;

	if (strlen(p) >= sizeof a.sun_path)
		return close(fd);
	strcpy(a.sun_path, p);
	r = connects ? connect(fd, (void *)&a, sizeof a) : bind(fd, (void *)&a, sizeof a);
	err = errno;
	close(fd);
	errno = err;
	return r;
}

static int watched(const char *p)
{
	int fd = inotify_init1(0), r = inotify_add_watch(fd, p, IN_CREATE), err = errno;

	close(fd);
	errno = err;
	return r < 0 ? -1 : 0;
}

static int stop(const char *path, const struct stat *st, int type, struct FTW *at)
{
	return 1;
}

static char text[PATH_MAX];
static struct stat st;
static struct statx sx;
static struct statfs sf;
static struct statvfs sv;
static struct dirent **names;

#define CALLS                                                                                 \
	ONE(stat(p, &st))                                                                     \
	ONE(lstat(p, &st))                                                                    \
	ONE(fstatat(base, p, &st, 0))                                                         \
	ONE(fstatat(base, p, &st, AT_SYMLINK_NOFOLLOW))                                       \
	ONE(fstatat(-1, p, &st, 0))                                                           \
	ONE(fstatat(base, p, &st, 1 << 30))                                                   \
	ONE(statx(base, p, 0, STATX_ALL, &sx))                                                \
	ONE(statx(base, p, AT_SYMLINK_NOFOLLOW, STATX_ALL, &sx))                              \
	ONE(access(p, R_OK))                                                                  \
	ONE(access(p, X_OK))                                                                  \
	ONE(access(p, 64))                                                                    \
	ONE(eaccess(p, W_OK))                                                                 \
	ONE(faccessat(base, p, F_OK, AT_SYMLINK_NOFOLLOW))                                    \
	ONE(opened(open(p, O_RDONLY)))                                                        \
	ONE(opened(open(p, O_WRONLY)))                                                        \
	ONE(opened(open(p, O_RDWR)))                                                          \
	ONE(opened(open(p, O_RDONLY | O_CREAT, 0644)))                                        \
	ONE(opened(open(p, O_WRONLY | O_CREAT, 0644)))                                        \
	ONE(opened(open(p, O_WRONLY | O_CREAT | O_EXCL, 0644)))                               \
	ONE(opened(open(p, O_WRONLY | O_CREAT | O_NOFOLLOW, 0644)))                           \
	ONE(opened(open(p, O_RDONLY | O_CREAT | O_DIRECTORY, 0644)))                          \
	ONE(opened(open(p, O_WRONLY | O_TRUNC)))                                              \
	ONE(opened(open(p, O_RDONLY | O_TRUNC)))                                              \
	ONE(opened(open(p, O_RDONLY | O_DIRECTORY)))                                          \
	ONE(opened(open(p, O_WRONLY | O_DIRECTORY)))                                          \
	ONE(opened(open(p, O_RDONLY | O_NOFOLLOW)))                                           \
	ONE(opened(open(p, O_RDONLY | O_NOFOLLOW | O_DIRECTORY)))                             \
	ONE(opened(open(p, O_PATH)))                                                          \
	ONE(opened(open(p, O_PATH | O_NOFOLLOW)))                                             \
	ONE(opened(open(p, O_PATH | O_DIRECTORY)))                                            \
	ONE(opened(open(p, O_RDONLY | O_TMPFILE, 0644)))                                      \
	ONE(opened(openat(base, p, O_RDONLY)))                                                \
	ONE(opened(openat(-1, p, O_RDWR)))                                                    \
	ONE(opened(creat(p, 0644)))                                                           \
	ONE(streamed(fopen(p, "r")))                                                          \
	ONE(streamed(fopen(p, "r+")))                                                         \
	ONE(streamed(fopen(p, "w")))                                                          \
	ONE(streamed(fopen(p, "a+")))                                                         \
	ONE(streamed(fopen(p, "wx")))                                                         \
	ONE(closed(opendir(p)))                                                               \
	ONE(scandir(p, &names, NULL, NULL))                                                   \
	ONE(nftw(p, stop, 4, FTW_PHYS))                                                       \
	ONE(nftw(p, stop, 4, 0))                                                              \
	ONE(gone(p))                                                                          \
	ONE(mkdir(p, 0755))                                                                   \
	ONE(mkdirat(base, p, 0755))                                                           \
	ONE(mkdirat(-1, p, 0755))                                                             \
	ONE(rmdir(p))                                                                         \
	ONE(unlink(p))                                                                        \
	ONE(unlinkat(base, p, 0))                                                             \
	ONE(unlinkat(base, p, AT_REMOVEDIR))                                                  \
	ONE(unlinkat(base, p, 1 << 30))                                                       \
	ONE(remove(p))                                                                        \
	ONE(mkfifo(p, 0644))                                                                  \
	ONE(mknod(p, S_IFREG | 0644, 0))                                                      \
	ONE(mknod(p, S_IFDIR | 0755, 0))                                                      \
	ONE(symlink("file", p))                                                               \
	ONE(symlink("", p))                                                                   \
	ONE(symlink(p, "new"))                                                                \
	ONE(symlink(p, "file"))                                                               \
	ONE(symlinkat("file", base, p))                                                       \
	ONE(readlink(p, text, sizeof text))                                                   \
	ONE(readlink(p, text, 0))                                                             \
	ONE(readlinkat(base, p, text, sizeof text))                                           \
	ONE(freed(realpath(p, NULL)))                                                         \
	ONE(freed(canonicalize_file_name(p)))                                                 \
	ONE(chmod(p, 0700))                                                                   \
	ONE(fchmodat(base, p, 0700, AT_SYMLINK_NOFOLLOW))                                     \
	ONE(fchmodat(base, p, 0700, 1 << 30))                                                 \
	ONE(chown(p, 0, 0))                                                                   \
	ONE(lchown(p, 0, 0))                                                                  \
	ONE(fchownat(base, p, 0, 0, 1 << 30))                                                 \
	ONE(utimensat(AT_FDCWD, p, NULL, 0))                                                  \
	ONE(utimensat(base, p, NULL, AT_SYMLINK_NOFOLLOW))                                    \
	ONE(utimensat(base, p, (const struct timespec[2]){ { 0, 2000000000 }, { 0, 0 } }, 0)) \
	ONE(utimes(p, NULL))                                                                  \
	ONE(utimes(p, (const struct timeval[2]){ { 0, 2000000 }, { 0, 0 } }))                 \
	ONE(lutimes(p, NULL))                                                                 \
	ONE(utime(p, NULL))                                                                   \
	ONE(truncate(p, 3))                                                                   \
	ONE(truncate(p, -1))                                                                  \
	ONE(statfs(p, &sf))                                                                   \
	ONE(statvfs(p, &sv))                                                                  \
	ONE(pathconf(p, _PC_NAME_MAX))                                                        \
	ONE(pathconf(p, 9999))                                                                \
	ONE(getxattr(p, "user.x", text, sizeof text))                                         \
	ONE(lgetxattr(p, "user.x", text, sizeof text))                                        \
	ONE(listxattr(p, text, sizeof text))                                                  \
	ONE(llistxattr(p, text, sizeof text))                                                 \
	ONE(setxattr(p, "user.x", "1", 1, 0))                                                 \
	ONE(setxattr(p, "user.x", "1", 1, XATTR_REPLACE))                                     \
	ONE(setxattr(p, "nonsense", "1", 1, 0))                                               \
	ONE(lsetxattr(p, "user.x", "1", 1, 0))                                                \
	ONE(removexattr(p, "user.x"))                                                         \
	ONE(lremovexattr(p, "user.x"))                                                        \
	ONE(bound(p, false))                                                                  \
	ONE(bound(p, true))                                                                   \
	ONE(watched(p))                                                                       \
	ONE(execl(p, "x", NULL))                                                              \
	ONE(rename(p, "new"))                                                                 \
	ONE(rename("none", p))                                                                \
	ONE(link(p, "new"))

#define CALLS_OF_TWO                                       \
	TWO(rename(p, q))                                  \
	TWO(renameat2(base, p, base, q, RENAME_NOREPLACE)) \
	TWO(renameat2(base, p, base, q, RENAME_EXCHANGE))  \
	TWO(link(p, q))                                    \
	TWO(linkat(base, p, base, q, AT_SYMLINK_FOLLOW))   \
	TWO(linkat(base, p, base, q, 1 << 30))

/* What each of them came to natively, in their order. Then only what failed is tried. */
static FILE *expected;

static bool begin(const char *call, const char *p, const char *q)
{
	char line[2 * PATH_MAX];

	snprintf(line, sizeof line, "%s p=%.60s q=%.60s", call, p ? p : "NULL", q ? q : "NULL");
	if (expected) {
		char outcome[2 * PATH_MAX];

		if (!fgets(outcome, sizeof outcome, expected) || strncmp(outcome, line, strlen(line)) != 0)
			abort();
		if (!strcmp(outcome + strlen(line), " 0\n"))
			return false;
	}
	printf("%s", line);
	errno = 0;
	return true;
}

static void end(long r)
{
	printf(" %s\n", r < 0 ? strerrorname_np(errno) : "0");
	if (r >= 0)
		make_all();
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	root = argv[1];
	base = open(root, O_RDONLY | O_DIRECTORY);
	if (argc > 2)
		expected = fopen(argv[2], "re");
	memset(too_long, 'x', sizeof too_long - 1);
	for (size_t i = 0; i < sizeof almost - 12; i += 2)
		strcat(almost, "./");
	strcat(almost, "file");
	if (base < 0 || fchdir(base) < 0 || (argc > 2 && !expected))
		return 1;
	if (!expected)
		make_all();
	for (size_t i = 0; i < ELEMENTS(paths); i++) {
		const char *p = paths[i];

#define ONE(call)                  \
	if (begin(#call, p, NULL)) \
		end((long)(call));
		CALLS
	}
	for (size_t i = 0; i < ELEMENTS(paths) * ELEMENTS(paths); i++) {
		const char *p = paths[i / ELEMENTS(paths)], *q = paths[i % ELEMENTS(paths)];

#define TWO(call)               \
	if (begin(#call, p, q)) \
		end((long)(call));
		CALLS_OF_TWO
	}
	return 0;
}
