/* SPDX-License-Identifier: MIT */
/*
 * vfork() counts: while a child uses this process's memory, the shim asks who it is before it believes what it knows. The
 * function returns twice on one stack, so it cannot be written in C; its return address waits in a register.
 */
#include "preload/shim.h"

#include <unistd.h>

/*
 * Between vfork() and exec two processes have one memory, and may be in two directories. The assembly below says when one comes, and counts
 * down when it has left; only meanwhile it is worth asking who this is.
 */
_Atomic unsigned vfork_guests;
static _Atomic pid_t home_pid;

void vfork_begins(void)
{
	/* Not by a guest that has guests itself. */
	if (atomic_load(&vfork_guests) == 0)
		atomic_store(&home_pid, getpid());
	atomic_fetch_add(&vfork_guests, 1);
}

bool is_guest(void)
{
	return atomic_load_explicit(&vfork_guests, memory_order_relaxed) && getpid() != home_pid;
}

#if defined(__x86_64__)
__asm__(".globl vfork\n"
	".type vfork, @function\n"
	"vfork:\n"
	"	subq $8, %rsp\n"
	"	call vfork_begins\n"
	"	addq $8, %rsp\n"
	"	popq %rdi\n"
	"	movl $58, %eax\n" /* SYS_vfork */
	"	syscall\n"
	"	pushq %rdi\n"
	"	testl %eax, %eax\n"
	"	jz 1f\n"
	"	lock decl vfork_guests(%rip)\n"
	"	cmpl $-4095, %eax\n"
	"	jae 2f\n"
	"1:	ret\n"
	"2:	negl %eax\n"
	"	pushq %rax\n"
	"	call __errno_location@PLT\n"
	"	popq %rdx\n"
	"	movl %edx, (%rax)\n"
	"	movl $-1, %eax\n"
	"	ret\n"
	".size vfork, .-vfork\n"
	".globl __vfork\n"
	".set __vfork, vfork\n");
#endif
