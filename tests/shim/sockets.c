/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets and watches in a tree (data/t) and at a file (data/f), and names for temporary files there. Prints what came of it;
 * it must be the same on files of the disk and in a run.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int step;

static void say(const char *what, long r)
{
	int err = errno;

	printf("%3d %s = %ld%s%s\n", ++step, what, r, r < 0 ? " " : "", r < 0 ? strerror(err) : "");
}

#define TRY(call) (errno = 0, say(#call, (long)(call)))

static struct sockaddr_un at;

static struct sockaddr *address(const char *path)
{
	memset(&at, 0, sizeof at);
	at.sun_family = AF_UNIX;
	strncpy(at.sun_path, path, sizeof at.sun_path);
	return (struct sockaddr *)&at;
}

#define AT(path) address(path), sizeof at

static void show_name(const char *what, int r, const struct sockaddr_un *un, socklen_t n)
{
	size_t length = n > offsetof(struct sockaddr_un, sun_path) ? n - offsetof(struct sockaddr_un, sun_path) : 0;

	printf("    %s: %d %d '%.*s'\n", what, r < 0 ? -1 : 0, (int)n, (int)length, un->sun_path);
}

static void show_names(int fd)
{
	struct sockaddr_un un = { 0 };
	socklen_t n = sizeof un;
	int r = getsockname(fd, (struct sockaddr *)&un, &n);

	show_name("getsockname", r, &un, n);
	memset(&un, 0, sizeof un);
	n = sizeof un;
	r = getpeername(fd, (struct sockaddr *)&un, &n);
	show_name("getpeername", r, &un, r < 0 ? 0 : n);
	/* Only as much as there is room for. */
	memset(&un, 0, sizeof un);
	n = 8;
	r = getsockname(fd, (struct sockaddr *)&un, &n);
	printf("    %d %d %s\n", r, (int)n, un.sun_path);
}

static int unix_socket(int type)
{
	return socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

static void converse(const char *path)
{
	int server = unix_socket(SOCK_STREAM), client = unix_socket(SOCK_STREAM), fd;
	struct sockaddr_un un = { 0 };
	socklen_t n = sizeof un;
	char word[10] = "";
	struct stat st;

	TRY(connect(client, AT(path)));
	TRY(bind(server, AT(path)));
	TRY(bind(server, AT("data/t/again")));
	TRY(access("data/t/again", F_OK));
	TRY(connect(client, AT(path)));
	TRY(listen(server, 5));
	show_names(server);
	TRY(bind(client, AT("data/t/client")));
	TRY(connect(client, AT(path)));
	show_names(client);
	fd = accept4(server, (struct sockaddr *)&un, &n, SOCK_CLOEXEC);
	show_name("accept4", fd, &un, n);
	show_names(fd);
	TRY(write(client, "word", 4));
	TRY(read(fd, word, 4));
	puts(word);
	TRY(stat(path, &st));
	printf("    %o\n", st.st_mode);
	close(fd);
	close(client);
	client = unix_socket(SOCK_STREAM);
	TRY(connect(client, AT(path)));
	n = sizeof un;
	memset(&un, 0, sizeof un);
	fd = accept(server, (struct sockaddr *)&un, &n);
	show_name("accept", fd, &un, n);
	close(fd);
	close(client);
	close(server);
	client = unix_socket(SOCK_STREAM);
	TRY(connect(client, AT(path)));
	TRY(bind(client, AT(path)));
	show_names(client);
	TRY(unlink(path));
	TRY(bind(client, AT(path)));
	TRY(unlink(path));
	TRY(unlink("data/t/client"));
	close(client);
}

static void send_and_receive(void)
{
	int to = unix_socket(SOCK_DGRAM), from = unix_socket(SOCK_DGRAM);
	struct iovec v = { "message", 7 };
	struct sockaddr_un un[3] = { 0 };
	struct mmsghdr two[3] = { 0 };
	char word[3][20] = { "" };
	struct iovec into[3];
	struct msghdr m = { 0 };
	socklen_t n = sizeof un[0];
	volatile size_t room = sizeof word[0];

	TRY(bind(to, AT("data/t/sub/to")));
	TRY(sendto(from, "nameless", 8, 0, AT("data/t/sub/to")));
	TRY(recvfrom(to, word[0], room, 0, (struct sockaddr *)un, &n));
	show_name("recvfrom", 0, un, n);
	TRY(bind(from, AT("data/t/from")));
	TRY(sendto(from, "datagram", 8, 0, AT("data/t/sub/to")));
	n = sizeof un[0];
	TRY(recvfrom(to, word[0], room, 0, (struct sockaddr *)un, &n));
	show_name("recvfrom", 0, un, n);
	TRY(sendto(from, "datagram", 8, 0, AT("data/t/sub/none")));
	TRY(sendto(from, "datagram", 8, 0, AT("data/t/sub/b.txt")));
	m = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_name = address("data/t/sub/to"), .msg_namelen = sizeof at };
	TRY(sendmsg(from, &m, 0));
	into[0] = (struct iovec){ word[0], sizeof word[0] };
	m = (struct msghdr){ .msg_iov = into, .msg_iovlen = 1, .msg_name = un, .msg_namelen = sizeof un[0] };
	TRY(recvmsg(to, &m, 0));
	show_name("recvmsg", 0, un, m.msg_namelen);
	puts(word[0]);
	address("data/t/sub/to");
	for (int i = 0; i < 2; i++)
		two[i].msg_hdr = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1, .msg_name = &at, .msg_namelen = sizeof at };
	TRY(sendmmsg(from, two, 2, 0));
	for (int i = 0; i < 3; i++) {
		into[i] = (struct iovec){ word[i], sizeof word[i] };
		two[i].msg_hdr = (struct msghdr){ .msg_iov = &into[i], .msg_iovlen = 1, .msg_name = &un[i], .msg_namelen = sizeof un[i] };
	}
	TRY(recvmmsg(to, two, 3, MSG_DONTWAIT, NULL));
	for (int i = 0; i < 2; i++)
		show_name("recvmmsg", (int)two[i].msg_len, &un[i], two[i].msg_hdr.msg_namelen);
	close(to);
	close(from);
	unlink("data/t/sub/to");
	unlink("data/t/from");
}

/* The name of the other end, in another program and another directory. */
static void across_programs(void)
{
	int server = unix_socket(SOCK_STREAM), fd, status = -1;
	pid_t pid;
	char said;

	TRY(bind(server, AT("data/t/server")));
	TRY(listen(server, 5));
	fflush(stdout);
	if ((pid = fork()) == 0) {
		int client = unix_socket(SOCK_STREAM);

		if (chdir("data/t/sub") < 0 || bind(client, AT("client")) < 0 || connect(client, AT("../server")) < 0)
			perror("client");
		show_names(client);
		fflush(stdout);
		if (write(client, "", 1) < 0)
			_exit(8);
		dup2(client, 0);
		execl("/bin/sh", "sh", "-c", "read line && echo $line && test -S client && test -S ../server", NULL);
		_exit(9);
	}
	fd = accept(server, NULL, NULL);
	TRY(read(fd, &said, 1));
	show_names(fd);
	/* What we say ourselves comes before what the shell says, or after it. */
	fflush(stdout);
	TRY(write(fd, "to a shell\n", 11));
	waitpid(pid, &status, 0);
	say("the other", status);
	unlink("data/t/server");
	unlink("data/t/sub/client");
	close(fd);
	close(server);
}

static void odd_addresses(void)
{
	char longest[120] = "data/t/";
	int fd = unix_socket(SOCK_STREAM), inet = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_un un;
	socklen_t n = sizeof un;

	TRY(connect(fd, AT("data/f")));
	TRY(connect(fd, AT("data/t/a.txt")));
	TRY(connect(fd, AT("data/t/none")));
	TRY(connect(fd, AT("data/t/a.txt/x")));
	TRY(bind(fd, AT("data/f")));
	TRY(bind(fd, AT("data/t/a.txt")));
	TRY(bind(fd, AT("data/t/none/x")));
	TRY(bind(fd, AT("data/t/x/")));
	TRY(bind(fd, AT("data/none/x")));
	TRY(bind(-1, AT("data/t/x")));
	TRY(bind(0, AT("data/t/x")) < 0);
	TRY(bind(inet, AT("data/t/x")));
	TRY(access("data/t/x", F_OK));
	/* All the room, without a NUL behind it. */
	for (size_t i = 7; i < sizeof at.sun_path; i++)
		longest[i] = "./"[(i - 7) % 2];
	longest[sizeof at.sun_path - 1] = 'x';
	TRY(bind(fd, address(longest), sizeof at));
	TRY(getsockname(fd, (struct sockaddr *)&un, &n));
	printf("    %d %.108s\n", (int)n, un.sun_path);
	close(fd);
	close(inet);
}

static void show_events(int fd)
{
	char buf[4096] __attribute__((aligned(8)));
	struct pollfd p = { fd, POLLIN, 0 };

	while (poll(&p, 1, 0) > 0) {
		ssize_t n = read(fd, buf, sizeof buf);

		for (char *x = buf; x < buf + n;) {
			struct inotify_event *e = (struct inotify_event *)x;

			printf("    event %d %x %s\n", e->wd, e->mask, e->len ? e->name : "");
			x += sizeof *e + e->len;
		}
	}
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

	if (write(fd, text, strlen(text)) < 0)
		perror(path);
	close(fd);
}

static void watching(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	const uint32_t changes = IN_CREATE | IN_DELETE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVE | IN_DELETE_SELF | IN_ATTRIB;

	TRY(inotify_add_watch(fd, "data/t/none", changes));
	TRY(inotify_add_watch(fd, "data/t/a.txt", changes | IN_ONLYDIR));
	TRY(inotify_add_watch(fd, "data/t", changes));
	TRY(inotify_add_watch(fd, "data/t/sub", changes));
	TRY(inotify_add_watch(fd, "data/t/a.txt", changes));
	TRY(inotify_add_watch(fd, "data/t", changes));
	put("data/t/new", "new");
	put("data/t/a.txt", "more");
	TRY(rename("data/t/new", "data/t/sub/old"));
	TRY(unlink("data/t/sub/old"));
	show_events(fd);
	TRY(inotify_add_watch(fd, "data/f", IN_MODIFY | IN_CLOSE_WRITE));
	put("data/f", "more\n");
	show_events(fd);
	TRY(inotify_rm_watch(fd, 4));
	close(fd);
}

static void naming(void)
{
	char name[40] = "data/t/nameXXXXXX", *p;
	struct mntent *m;
	FILE *f;

	TRY(mktemp(name) != name);
	printf("    %.11s %d %d\n", name, (int)strlen(name), access(name, F_OK));
	p = mktemp(strcpy(name, "data/t/nameXXX"));
	printf("    '%s'\n", p);
	p = mktemp(strcpy(name, "data/t/a.txt/XXXXXX"));
	printf("    '%s'\n", p);
	unsetenv("TMPDIR");
	p = tempnam("data/t/sub", "long-prefix");
	printf("    %.16s %d %d\n", p, (int)strlen(p), access(p, F_OK));
	put(p, "x");
	TRY(unlink(p));
	free(p);
	p = tempnam("data/t/none", NULL);
	printf("    %.5s\n", p);
	free(p);
	setenv("TMPDIR", "data/t", 1);
	p = tempnam("/", NULL);
	printf("    %.11s %d\n", p, (int)strlen(p));
	free(p);
	unsetenv("TMPDIR");
	put("data/t/mounts", "dev /dir type ro 1 2\n");
	f = setmntent("data/t/mounts", "r");
	m = f ? getmntent(f) : NULL;
	printf("    %s %d\n", m ? m->mnt_dir : "nothing", f ? fcntl(fileno(f), F_GETFD) : -1);
	if (f)
		TRY(endmntent(f));
	TRY(setmntent("data/t/none", "r") ? 0 : -1);
	TRY(unlink("data/t/mounts"));
}

int main(void)
{
	char here[PATH_MAX], path[PATH_MAX + 20];

	umask(022);
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	converse("data/t/sub/socket");
	snprintf(path, sizeof path, "%s/data/t/s", getcwd(here, sizeof here));
	if (strlen(path) < sizeof at.sun_path)
		converse(path);
	send_and_receive();
	across_programs();
	odd_addresses();
	watching();
	naming();
	return 0;
}
