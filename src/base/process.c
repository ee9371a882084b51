/* SPDX-License-Identifier: MIT */
#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

/* A page that reads as zero in a new process; NULL before the first call, MAP_FAILED where there is no such page. */
static pid_t *cached;

static pid_t *make_page(void)
{
	pid_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *expected = NULL;

	if (page != MAP_FAILED && madvise(page, 4096, MADV_WIPEONFORK) < 0) {
		munmap(page, 4096);
		page = MAP_FAILED;
	}
	if (__atomic_compare_exchange_n(&cached, &expected, page, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return page;
	if (page != MAP_FAILED)
		munmap(page, 4096);
	return expected;
}

pid_t process_id(void)
{
	pid_t *page = __atomic_load_n(&cached, __ATOMIC_ACQUIRE), pid;

	if (!page)
		page = make_page();
	if (page == MAP_FAILED)
		return getpid();
	pid = __atomic_load_n(page, __ATOMIC_RELAXED);
	if (pid == 0) {
		pid = getpid();
		__atomic_store_n(page, pid, __ATOMIC_RELAXED);
	}
	return pid;
}

/* What is refused for a moment is asked for so often. */
#define TRIES 100

bool process_is_child(pid_t pid)
{
	siginfo_t status = { 0 };
	int r;

	do
		r = waitid(P_PID, (id_t)pid, &status, WEXITED | WNOHANG | WNOWAIT);
	while (r < 0 && errno == EINTR);
	return r == 0 && status.si_pid == 0;
}

int process_open(pid_t pid)
{
	int fd = -1;

	for (int tries = 0; fd < 0 && tries < TRIES; tries++) {
		fd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (fd < 0 && !is_passing(-errno))
			break;
	}
	return fd < 0 ? -errno : fd;
}

#define SIGNAL_PROCESS_GROUP (1U << 2) /* PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9 */

int process_kill(pid_t pid, int signal)
{
	int r = kill(pid, signal) < 0 ? -errno : 0;
	_cleanup_fd_ int fd = -1;

	if (r != -EPERM && r != -ENOSYS && r != -EACCES)
		return r;
	fd = process_open(pid < 0 ? -pid : pid);
	if (fd < 0)
		return r;
	if (pid < 0 && syscall(SYS_pidfd_send_signal, fd, signal, NULL, SIGNAL_PROCESS_GROUP) == 0)
		return 0;
	return syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0) == 0 ? 0 : r;
}
