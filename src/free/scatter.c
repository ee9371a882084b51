/* SPDX-License-Identifier: MIT */
/*
 * Calls that write to memory which they find through a second pointer: no filter of system calls can look there. While libfixd watches
 * who changes its views (FIXD_BLAME) it is told before they write, for the kernel would fail with EFAULT where it must not.
 */
#include "free/free.h"

#include <sys/socket.h>
#include <sys/uio.h>

static void (*told)(uintptr_t start, size_t size, const void *place);

bool fixd_free_tells(void (*fn)(uintptr_t, size_t, const void *))
{
	told = fn;
	return true;
}

static void tell_parts(const struct iovec *parts, size_t n, const char *after)
{
	/* The kernel takes no more. */
	for (size_t i = 0; parts && i < n && n <= IOV_MAX; i++)
		told((uintptr_t)parts[i].iov_base, parts[i].iov_len, after - 1);
}

void scatter_message(const struct msghdr *m, const void *after)
{
	if (likely(!told) || !m)
		return;
	tell_parts(m->msg_iov, m->msg_iovlen, after);
	if (m->msg_name)
		told((uintptr_t)m->msg_name, m->msg_namelen, (const char *)after - 1);
	if (m->msg_control)
		told((uintptr_t)m->msg_control, m->msg_controllen, (const char *)after - 1);
}

#define TELL(parts, n)                                                               \
	do {                                                                         \
		if (!likely(!told) && (n) > 0)                                       \
			tell_parts(parts, (size_t)(n), __builtin_return_address(0)); \
	} while (0)

SHIM ssize_t readv(int fd, const struct iovec *parts, int n)
{
	TELL(parts, n);
	return REAL(readv)(fd, parts, n);
}

SHIM ssize_t preadv(int fd, const struct iovec *parts, int n, off_t at)
{
	TELL(parts, n);
	return REAL(preadv)(fd, parts, n, at);
}
SHIM_ALIAS(preadv64, preadv);

ssize_t preadv2(int fd, const struct iovec *parts, int n, off_t at, int flags);

SHIM ssize_t preadv2(int fd, const struct iovec *parts, int n, off_t at, int flags)
{
	TELL(parts, n);
	return REAL(preadv2)(fd, parts, n, at, flags);
}
SHIM_ALIAS(preadv64v2, preadv2);

SHIM ssize_t process_vm_readv(pid_t pid, const struct iovec *parts, unsigned long n, const struct iovec *from, unsigned long n_from,
			      unsigned long flags)
{
	TELL(parts, n);
	return REAL(process_vm_readv)(pid, parts, n, from, n_from, flags);
}
