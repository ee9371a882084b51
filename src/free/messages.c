/* SPDX-License-Identifier: MIT */
/* Of scatter.c, the calls that the path shim has in front of libc itself: this is for programs without it. */
#include "free/free.h"

#include <sys/socket.h>

SHIM ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	scatter_message(m, __builtin_return_address(0));
	return REAL(recvmsg)(fd, m, flags);
}

SHIM int recvmmsg(int fd, struct mmsghdr *m, unsigned n, int flags, struct timespec *limit)
{
	for (unsigned i = 0; i < n; i++)
		scatter_message(&m[i].msg_hdr, __builtin_return_address(0));
	return REAL(recvmmsg)(fd, m, n, flags, limit);
}
