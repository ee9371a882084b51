/* SPDX-License-Identifier: MIT */
/*
 * To give a file to somebody else is forbidden to ordinary users (EPERM), which fakeroot and others forgive. In a user namespace that does
 * not know the other one it is wrong (EINVAL), which they do not: a filter says what they wait for.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "fixctl/run.h"

#if defined __x86_64__
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* Calls that newer machines do not have. */
#ifndef SYS_chown
#define SYS_chown UINT32_MAX
#define SYS_lchown UINT32_MAX
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* Machines are little-endian: the low half of an argument comes first. */
#define LOAD_ARGUMENT(k) LOAD(args[k])
/* To the instruction `yes` or `no`, from the one with the number `at`. */
#define IS(at, value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, (yes) - (at)-1, (no) - (at)-1)
#define END(what) BPF_STMT(BPF_RET | BPF_K, what)

/* One of those, or nobody: as it is. */
#define ALLOW 19
#define REFUSE 20
#define IS_OWN(at, argument, own, then) LOAD_ARGUMENT(argument), IS((at) + 1, UINT32_MAX, then, (at) + 2), IS((at) + 2, own, then, REFUSE)

void owners_refuse(uid_t uid, gid_t gid)
{
#ifdef ARCHITECTURE
	struct sock_filter code[] = {
		LOAD(arch),
		IS(1, ARCHITECTURE, 2, ALLOW),
		LOAD(nr),
		IS(3, SYS_fchownat, 13, 4),
		IS(4, SYS_chown, 7, 5),
		IS(5, SYS_lchown, 7, 6),
		IS(6, SYS_fchown, 7, ALLOW),
		IS_OWN(7, 1, uid, 10),
		IS_OWN(10, 2, gid, ALLOW),
		IS_OWN(13, 2, uid, 16),
		IS_OWN(16, 3, gid, ALLOW),
		END(SECCOMP_RET_ALLOW),
		END(SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { ELEMENTSOF(code), code };

	/* Where filters are not allowed it stays as the kernel says it. */
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
#else
	(void)uid, (void)gid;
#endif
}
