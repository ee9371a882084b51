/* SPDX-License-Identifier: MIT */
/* Tests that have the kernel write into a fixture, a call each: it must not fail because somebody watches who changes what. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

/* A mark for each: the line with the call is the one that writes. */
#define LEAK(name) static void name(void)

static void *at(size_t offset)
{
	return (char *)fixd_test("bytes") + 8192 + offset;
}

static void must(long result)
{
	if (result < 0)
		abort();
}

static int a_pipe(void)
{
	int ends[2];

	must(pipe(ends));
	must(write(ends[1], "0123456789", 10));
	return ends[0];
}

static int a_socket(void)
{
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	return ends[0];
}

static struct iovec of(void *p, size_t n)
{
	return (struct iovec){ p, n };
}

static void reads_a_process(void)
{
	static char other[20] = "what it has";
	struct iovec here = of(at(0), 20), there = of(other, 20);

	must(process_vm_readv(getpid(), &here, 1, &there, 1, 0)); /* writes */
}

static void the_mask_stays_set(void)
{
	sigset_t one, now;

	sigemptyset(&one);
	sigaddset(&one, SIGUSR2);
	must(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &one, at(0), 8)); /* writes */
	must(sigprocmask(SIG_SETMASK, NULL, &now));
	if (!sigismember(&now, SIGUSR2))
		abort();
	must(sigprocmask(SIG_UNBLOCK, &one, NULL));
}

static void names_of_sockets(void)
{
	struct sockaddr_storage own;
	socklen_t *size = at(0);
	int fd = a_socket();

	memcpy(size, &(socklen_t){ sizeof own }, sizeof *size); /* writes */
	must(getsockname(fd, (struct sockaddr *)&own, size));
	must(getpeername(fd, (struct sockaddr *)&own, size));
}

static void received_addresses(void)
{
	struct sockaddr_storage own;
	socklen_t size = sizeof own;
	char c;
	int ends[2];

	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
	must(send(ends[1], "x", 1, 0));
	must(recvfrom(ends[0], &c, 1, 0, (struct sockaddr *)&own, memcpy(at(0), &size, sizeof size))); /* writes */
}

static void a_message_of_a_queue(void)
{
	struct {
		long type;
		char text[10];
	} m = { 7, "seven" };
	int id = msgget(IPC_PRIVATE, 0600);

	must(id);
	must(msgsnd(id, &m, sizeof m.text, 0));
	must(msgrcv(id, at(0), sizeof m.text, 0, 0)); /* writes */
	msgctl(id, IPC_RMID, NULL);
}

static void facts_of_a_segment(void)
{
	int id = shmget(IPC_PRIVATE, 4096, 0600);

	must(id);
	must(shmctl(id, IPC_STAT, at(0))); /* writes */
	shmctl(id, IPC_RMID, NULL);
}

/* clang-format off */
LEAK(getresuid_) { must(getresuid(at(0), at(4), at(8))); } /* writes */
LEAK(getresgid_) { must(getresgid(at(0), at(4), at(8))); } /* writes */
LEAK(prctl_) { must(prctl(PR_GET_NAME, at(0))); } /* writes */
LEAK(sigpending_) { must(syscall(SYS_rt_sigpending, at(0), 8)); } /* writes */
LEAK(getrlimit_) { must(getrlimit(RLIMIT_NOFILE, at(0))); } /* writes */
LEAK(getrusage_) { must(getrusage(RUSAGE_SELF, at(0))); } /* writes */
LEAK(uname_) { must(uname(at(0))); } /* writes */
LEAK(sysinfo_) { must(sysinfo(at(0))); } /* writes */
LEAK(times_) { must(times(at(0))); } /* writes */
LEAK(clock_getres_) { must(syscall(SYS_clock_getres, CLOCK_REALTIME, at(0))); } /* writes */
LEAK(gettimeofday_) { must(syscall(SYS_gettimeofday, at(0), NULL)); } /* writes */
LEAK(adjtimex_) { must(adjtimex(memset(at(0), 0, sizeof(struct timex)))); } /* writes */
LEAK(getitimer_) { must(getitimer(ITIMER_REAL, at(0))); } /* writes */
LEAK(setitimer_) { must(setitimer(ITIMER_PROF, &(struct itimerval){ 0 }, at(0))); } /* writes */
LEAK(timerfd_) { must(timerfd_settime(timerfd_create(CLOCK_MONOTONIC, 0), 0, &(struct itimerspec){ 0 }, at(0))); } /* writes */
LEAK(sched_getparam_) { must(sched_getparam(0, at(0))); } /* writes */
LEAK(sched_rr_) { must(sched_rr_get_interval(0, at(0))); } /* writes */
LEAK(getcpu_) { must(syscall(SYS_getcpu, at(0), at(4), NULL)); } /* writes */
LEAK(fcntl_) { must(fcntl(a_pipe(), F_GETLK, memcpy(at(0), &(struct flock){ .l_type = F_WRLCK }, sizeof(struct flock)))); } /* writes */
LEAK(splice_) { (void)!splice(a_pipe(), NULL, 1, memcpy(at(0), &(off_t){ 0 }, sizeof(off_t)), 1, 0); } /* writes */
LEAK(capget_) { must(syscall(SYS_capget, &(uint32_t[]){ 0x20080522, 0 }, at(0))); } /* writes */
LEAK(fstatfs_) { must(fstatfs(a_pipe(), at(0))); } /* writes */
LEAK(statx_) { must(statx(AT_FDCWD, "/", 0, STATX_ALL, at(0))); } /* writes */
LEAK(readlink_) { must(readlink("/proc/self", at(0), 20)); } /* writes */
LEAK(getcwd_) { must(getcwd(at(0), 4096) ? 0 : -1); } /* writes */

#define ROW(name) { #name, name }
static const struct leak leaks[] = {
	ROW(reads_a_process), ROW(the_mask_stays_set), ROW(names_of_sockets), ROW(received_addresses), ROW(a_message_of_a_queue), ROW(facts_of_a_segment),
	ROW(getresuid_), ROW(getresgid_), ROW(prctl_), ROW(sigpending_), ROW(getrlimit_), ROW(getrusage_), ROW(uname_), ROW(sysinfo_),
	ROW(times_), ROW(clock_getres_), ROW(gettimeofday_), ROW(adjtimex_), ROW(getitimer_), ROW(setitimer_), ROW(timerfd_), ROW(sched_getparam_),
	ROW(sched_rr_), ROW(getcpu_), ROW(fcntl_), ROW(splice_), ROW(capget_), ROW(fstatfs_), ROW(statx_), ROW(readlink_), ROW(getcwd_),
};
/* clang-format on */

int main(int argc, char *argv[])
{
	return suite(leaks, sizeof leaks / sizeof *leaks, argc, argv);
}
