/* SPDX-License-Identifier: MIT */
/* Messages, jobs and records in both directions, and where sockets are. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/tree.h"
#include "tap.h"
#include "wire/carry.h"
#include "wire/job.h"
#include "wire/record.h"
#include "wire/default_socket.h"
#include "wire/socket.h"

static void records_come_back(void)
{
	_cleanup_text_ struct text t = { 0 };
	struct record_reader in, inside;
	struct record r;
	bool bad = false;
	size_t mark;

	record_u64(&t, 1, 42);
	mark = record_begin(&t, 2, RECORD_LIST);
	record_string(&t, 2, "a");
	record_string(&t, 2, "");
	record_end(&t, mark);
	record_string(&t, 3, NULL);
	in = (struct record_reader){ t.data, t.size };
	check(record_next(&in, &r, &bad) && r.field == 1 && r.number == 42);
	check(record_next(&in, &r, &bad) && r.kind == RECORD_LIST);
	inside = record_inside(&r);
	check(record_next(&inside, &r, &bad) && r.size == 1 && *r.data == 'a');
	check(record_next(&inside, &r, &bad) && r.size == 0);
	check(!record_next(&inside, &r, &bad) && !bad);
	check(record_next(&in, &r, &bad) && r.kind == RECORD_NULL);
	check(!record_next(&in, &r, &bad) && !bad);
	/* Cut anywhere, it never reads on. */
	for (size_t n = 1; n < t.size; n++) {
		char *cut = xmemdup(t.data, n);

		bad = false;
		in = (struct record_reader){ cut, n };
		while (record_next(&in, &r, &bad))
			;
		free(cut);
	}
}

static void jobs_come_back(void)
{
	char *env[] = { (char *)"A=1", (char *)"B", NULL };
	struct job_dependency dep = { .name = (char *)"d", .address = 4096, .size = 5, .root = 1, .kind = 2, .direct = true };
	struct job j = { .kind = JOB_PLUGIN,
			 .name = (char *)"n",
			 .source = (char *)"s",
			 .root = (char *)"/",
			 .address = 1,
			 .limit = 2,
			 .malloc_arena = true,
			 .env = env,
			 .dependencies = &dep,
			 .n_dependencies = 1 },
		   back;
	_cleanup_text_ struct text t = { 0 };

	job_encode(&j, &t);
	check_int(job_decode(t.data, t.size, &back), 0);
	check(back.kind == JOB_PLUGIN && back.malloc_arena && !back.param && back.limit == 2);
	check_string(back.env[0], "A=1");
	check(back.env[2] == NULL && back.n_dependencies == 1 && back.dependencies[0].direct);
	check_string(back.dependencies[0].name, "d");
	job_deinit(&back);
	for (size_t n = 0; n < t.size; n++) {
		char *cut = xmemdup(t.data, n);

		if (job_decode(cut, n, &back) == 0)
			job_deinit(&back);
		free(cut);
	}
}

static void descriptors_arrive_or_are_closed(void)
{
	int pair[2], fds[4], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int three[] = { null, null, null };
	size_t n;
	char buf[8];

	check_int(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	check_int(socket_send(pair[0], "hello", 5, three, 3, 0), 0);
	n = 4;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), 5);
	check_int(n, 3);
	for (int i = 0; i < 3; i++) {
		check(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		fd_close(fds[i]);
	}
	check_int(socket_send(pair[0], "hello", 5, three, 3, 0), 0);
	n = 1;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), -EMSGSIZE);
	check_int(n, 0);
	/* An empty packet is an end, and leaves no descriptor behind. */
	n = 4;
	check_int(socket_send(pair[0], "", 0, three, 1, 0), 0);
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), 0);
	check_int(n, 0);
	check_int(socket_send(pair[0], "too long a message", 18, three, 1, 0), 0);
	n = 4;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), -EMSGSIZE);
	n = 4;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, MSG_DONTWAIT), -EAGAIN);
	fd_close(pair[0]);
	n = 4;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), 0);
	check_int(socket_send(pair[1], "x", 1, NULL, 0, 0), -EPIPE);
	fd_close(pair[1]);
	fd_close(null);
}

static char place[4096];

static const char *listens(void)
{
	return default_socket_to_listen(place, sizeof place) ? place : "nowhere";
}

static const char *connects(void)
{
	default_socket_to_connect(place, sizeof place);
	return place;
}

/* Of a peer that has ended without having read all that it was sent. */
static void last_words_arrive(void)
{
	int pair[2], fds[2];
	size_t n = 2;
	char buf[16];

	check_int(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	check_int(socket_send(pair[1], "unread", 6, NULL, 0, 0), 0);
	check_int(socket_send(pair[0], "words", 5, NULL, 0, 0), 0);
	close(pair[0]);
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, MSG_DONTWAIT), 5);
	n = 2;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, MSG_DONTWAIT), 0);
	close(pair[1]);
}

static bool ends_early;

/* As the kernel does it when the other side sends and ends while it is asked. */
ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
	if (ends_early) {
		ends_early = false;
		msg->msg_controllen = 0;
		return 0;
	}
	return syscall(SYS_recvmsg, fd, msg, flags);
}

static void the_end_is_said_too_early(void)
{
	int pair[2], fds[2];
	size_t n = 2;
	char buf[16];

	check_int(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	check_int(socket_send(pair[0], "words", 5, &pair[0], 1, 0), 0);
	close(pair[0]);
	ends_early = true;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), 5);
	check_int(n, 1);
	close(fds[0]);
	n = 2;
	check_int(socket_receive(pair[1], buf, sizeof buf, fds, &n, 0), 0);
	check_int(n, 0);
	close(pair[1]);
}

static void daemons_and_clients_meet(void)
{
	char dir[] = "/tmp/fixd-unit-XXXXXX", wanted[160];
	FILE *f;

	check(mkdtemp(dir));
	snprintf(wanted, sizeof wanted, "%s/fixd/socket", dir);
	setenv("XDG_RUNTIME_DIR", dir, 1);
	check_string(listens(), wanted);
	*strrchr(wanted, '/') = '\0';
	check_int(mkdir(wanted, 0700), 0);
	strcat(wanted, "/socket");
	f = fopen(wanted, "w");
	check(f);
	fclose(f);
	check_string(connects(), wanted);
	/* One that others could write to is nobody's. */
	check_int(chmod(dir, 0777), 0);
	check(strcmp(listens(), wanted) != 0);
	check(strcmp(connects(), wanted) != 0);
	check_int(chmod(dir, 0700), 0);
	setenv("XDG_RUNTIME_DIR", dir + 1, 1);
	check(strcmp(listens(), wanted) != 0);
	/* One in which no socket has room. */
	snprintf(wanted, sizeof wanted, "%s/%090d", dir, 0);
	check_int(mkdir(wanted, 0700), 0);
	setenv("XDG_RUNTIME_DIR", wanted, 1);
	check(strncmp(listens(), wanted, strlen(wanted)) != 0);
	check(strncmp(connects(), wanted, strlen(wanted)) != 0);
	unsetenv("XDG_RUNTIME_DIR");
	/* Without it both name the same, unless this machine has a daemon. */
	snprintf(wanted, sizeof wanted, "/tmp/fixd-%u/socket", (unsigned)geteuid());
	if (listens() && *place == '/' && access(place, F_OK) < 0 && access(SYSTEM_SOCKET, F_OK) < 0 && access(wanted, F_OK) < 0) {
		strcpy(wanted, place);
		check_string(connects(), wanted);
	}
	check_int(tree_remove(dir), 0);
}

static void carried_objects_say_where_they_lay(void)
{
	static const char *const wrong[] = {
		"",
		"fixd-objects 2 0 0 0 0\n",
		"fixd-objects 1 1 0 0 0\n",		     /* no page begins there */
		"fixd-objects 1 800000000000 10 0 0\n",	     /* nor there, for a program */
		"fixd-objects 1 1000 fffffffffffffff 0 0\n", /* larger than anything */
		"fixd-objects 1 1000 10 10 0\n",	     /* its root is not in it */
		"fixd-objects 1 1000 10 8 41\n",	     /* more than there can be */
		"fixd-objects 1 1000 10 8 1\n",		     /* one is missing */
		"fixd-objects 1 1000 10 8 1\n2000 10 0123\n",
		"fixd-objects 1 1000 10 8 0\nmore",
	};
	struct carried c = { .address = 0x7e8000000000, .size = 0x1234, .root = 8, .n = WIRE_FDS_MAX }, back;
	char head[CARRY_SIZE];

	for (size_t i = 0; i < c.n; i++)
		c.images[i] = (struct carried_image){ 0x7e8000200000 + (i << 21), i, { .low = i, .high = UINT64_MAX - i } };
	carry_write(&c, head);
	check_int(carry_read(head, &back), 0);
	check(!memcmp(&c, &back, sizeof c));
	head[CARRY_SIZE - 1] = 'x';
	check_int(carry_read(head, &back), 0);
	memset(head, ' ', sizeof head);
	check_int(carry_read(head, &back), -EBADMSG);
	for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
		memset(head, 0, sizeof head);
		strcpy(head, wrong[i]);
		check_int(carry_read(head, &back), -EBADMSG);
	}
}

static const struct tap_test tests[] = { TAP_TEST(records_come_back),
					 TAP_TEST(jobs_come_back),
					 TAP_TEST(carried_objects_say_where_they_lay),
					 TAP_TEST(descriptors_arrive_or_are_closed),
					 TAP_TEST(last_words_arrive),
					 TAP_TEST(the_end_is_said_too_early),
					 TAP_TEST(daemons_and_clients_meet) };
TAP_MAIN(tests)
