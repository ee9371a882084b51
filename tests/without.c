/* SPDX-License-Identifier: MIT */
/* Runs a command for which a system call is refused, as in a container: `without CALL COMMAND ARGUMENT...` */
#include <errno.h>
#include <seccomp.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (argc < 3 || !filter)
		return 2;
	if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), seccomp_syscall_resolve_name(argv[1]), 0) < 0 || seccomp_load(filter) < 0) {
		fputs("without: the filter cannot be installed\n", stderr);
		return 2;
	}
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}
