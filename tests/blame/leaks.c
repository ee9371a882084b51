/* SPDX-License-Identifier: MIT */
/*
 * Tests that forget to put back what they change in a fixture. In each the line that writes first has its mark; suite.h runs them, and
 * tests/shim/blame.py compares what FIXD_BLAME says.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "library.h"
#include "suite.h"

/* Compiled without optimization, for the line of a call in tail position is lost otherwise. */
#define LEAK(name) static void name(void)

struct record {
	int id;
	double weight;
	char word[16];
	struct record *next;
};

static struct record *records(void)
{
	return fixd_test("bytes");
}

LEAK(stores_a_byte)
{
	char *bytes = fixd_test("bytes");

	bytes[7000] ^= 1; /* writes */
}

LEAK(stores_a_field)
{
	records()[200].weight = 2.5; /* writes */
}

LEAK(copies_by_memcpy)
{
	char own[300];

	memset(own, 'y', sizeof own);
	memcpy((char *)fixd_test("bytes") + 4000, own, sizeof own); /* writes */
}

LEAK(fills_pages)
{
	memset((char *)fixd_test("bytes") + 8192, 'z', 12000); /* writes */
}

LEAK(formats)
{
	sprintf(records()[9].word, "%s-%d", "nine", 9); /* writes */
}

static int by_byte(const void *a, const void *b)
{
	return *(const unsigned char *)a - *(const unsigned char *)b;
}

LEAK(sorts)
{
	qsort(fixd_test("bytes"), 5000, 1, by_byte); /* writes */
}

static void *write_in_thread(void *where)
{
	*(int *)where = -1; /* writes: writes_in_a_thread */
	return NULL;
}

LEAK(writes_in_a_thread)
{
	pthread_t thread;

	pthread_create(&thread, NULL, write_in_thread, &records()[3].id);
	pthread_join(thread, NULL);
}

/* Its copy of the view is its own, and so is what is said of it, when it exits. */
LEAK(writes_in_a_child)
{
	pid_t child;
	char *bytes = fixd_test("bytes");

	fflush(stdout);
	child = fork();
	if (child == 0) {
		bytes[12] = '!'; /* writes */
		exit(0);
	}
	waitpid(child, NULL, 0);
}

LEAK(reads_into_it)
{
	int ends[2];

	if (pipe(ends) < 0 || write(ends[1], "from a pipe", 11) != 11)
		abort();
	if (read(ends[0], (char *)fixd_test("bytes") + 4090, 11) != 11) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(reads_a_file_into_it)
{
	FILE *f = fopen("/proc/self/exe", "r");

	if (fread(fixd_test("bytes"), 1, 9000, f) != 9000) /* writes */
		abort();
	fclose(f);
}

LEAK(receives_into_it)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0 || send(ends[0], "datagram", 8, 0) != 8)
		abort();
	if (recv(ends[1], records()[50].word, sizeof records()->word, 0) != 8) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(reads_in_parts)
{
	struct iovec parts[] = { { records()[60].word, 4 }, { records()[61].word, 4 } };
	int ends[2];

	if (pipe(ends) < 0 || write(ends[1], "in parts", 8) != 8)
		abort();
	if (readv(ends[0], parts, 2) != 8) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(reads_a_file_in_parts)
{
	struct iovec part = { (char *)fixd_test("bytes") + 4000, 10000 };
	int fd = open("/proc/self/exe", O_RDONLY);

	if (preadv(fd, &part, 1, 64) != 10000) /* writes */
		abort();
	close(fd);
}

LEAK(receives_a_message)
{
	struct iovec part = { records()[70].word, 8 };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0 || send(ends[0], "datagram", 8, 0) != 8)
		abort();
	if (recvmsg(ends[1], &m, 0) != 8) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(receives_messages)
{
	struct iovec part = { records()[80].word, 8 };
	struct mmsghdr m = { .msg_hdr = { .msg_iov = &part, .msg_iovlen = 1 } };
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) < 0 || send(ends[0], "datagram", 8, 0) != 8)
		abort();
	if (recvmmsg(ends[1], &m, 1, 0, NULL) != 1) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(waits_for_a_child)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(3);
	if (waitpid(child, &records()[90].id, 0) != child) /* writes */
		abort();
}

LEAK(asks_how_much_there_is)
{
	int ends[2];

	if (pipe(ends) < 0 || write(ends[1], "12345", 5) != 5)
		abort();
	if (ioctl(ends[0], FIONREAD, &records()[91].id) < 0) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
}

LEAK(waits_for_events)
{
	int ends[2], fd = epoll_create1(0);
	struct epoll_event wanted = { .events = EPOLLIN, .data.u64 = 77 };

	if (pipe(ends) < 0 || write(ends[1], "1", 1) != 1 || epoll_ctl(fd, EPOLL_CTL_ADD, ends[0], &wanted) < 0)
		abort();
	if (epoll_wait(fd, (struct epoll_event *)&records()[92], 1, -1) != 1) /* writes */
		abort();
	close(ends[0]);
	close(ends[1]);
	close(fd);
}

LEAK(asks_for_an_address)
{
	socklen_t size = sizeof(struct record);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (getsockname(fd, (struct sockaddr *)&records()[93], &size) < 0) /* writes */
		abort();
	close(fd);
}

/* Without a system call, in a library of the kernel's. */
LEAK(asks_for_the_time)
{
	clock_gettime(CLOCK_REALTIME, (struct timespec *)&records()[94]); /* writes */
}

LEAK(library_writes)
{
	library_normalize(fixd_test("bytes"), 100);
}

static volatile sig_atomic_t *flag;

static void on_alarm(int sig)
{
	(void)sig;
	*flag = 5; /* writes: handler_writes */
}

LEAK(handler_writes)
{
	struct sigaction action = { .sa_handler = on_alarm };

	flag = (sig_atomic_t *)&records()[20].id;
	sigaction(SIGUSR1, &action, NULL);
	raise(SIGUSR1);
}

static inline void set_word(struct record *r, const char *word)
{
	strcpy(r->word, word); /* writes: inlined_function_writes */
}

LEAK(inlined_function_writes)
{
	set_word(&records()[300], "inlined");
}

LEAK(puts_it_back)
{
	char *bytes = fixd_test("bytes");
	char was = bytes[100];

	bytes[100] = 'q';
	bytes[100] = was;
}

LEAK(only_looks)
{
	int sum = 0;

	for (size_t i = 0; i < fixd_test_size("bytes"); i++)
		sum += ((char *)fixd_test("bytes"))[i];
	if (sum == 0)
		abort();
}

static sigjmp_buf out;

static void on_fault(int sig)
{
	siglongjmp(out, sig);
}

/* What is no write to a view is the program's own business. */
LEAK(own_handler_works)
{
	char *bytes = fixd_test("bytes");
	struct sigaction action = { .sa_handler = on_fault }, had;

	sigaction(SIGSEGV, &action, &had);
	if (sigsetjmp(out, 1) == 0) {
		bytes[5] = '5'; /* writes */
		*(volatile char *)(uintptr_t)8 = 1;
		abort();
	}
	sigaction(SIGSEGV, &had, NULL);
}

/* clang-format off */
#define ROW(name) { #name, name }
/* clang-format on */
static const struct leak leaks[] = {
	ROW(stores_a_byte),
	ROW(stores_a_field),
	ROW(copies_by_memcpy),
	ROW(fills_pages),
	ROW(formats),
	ROW(sorts),
	ROW(writes_in_a_thread),
	ROW(writes_in_a_child),
	ROW(reads_into_it),
	ROW(reads_a_file_into_it),
	ROW(receives_into_it),
	ROW(reads_in_parts),
	ROW(reads_a_file_in_parts),
	ROW(receives_a_message),
	ROW(receives_messages),
	ROW(waits_for_a_child),
	ROW(asks_how_much_there_is),
	ROW(waits_for_events),
	ROW(asks_for_an_address),
	ROW(asks_for_the_time),
	ROW(library_writes),
	ROW(handler_writes),
	ROW(inlined_function_writes),
	ROW(puts_it_back),
	ROW(only_looks),
	ROW(own_handler_works),
};

int main(int argc, char *argv[])
{
	return suite(leaks, sizeof leaks / sizeof *leaks, argc, argv);
}
