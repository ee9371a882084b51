/* SPDX-License-Identifier: MIT */
/*
 * vfork() counts: while a child uses this process's memory, the shim asks who it is before it believes what it knows. The
 * function returns twice on one stack, so it cannot be written in C; its return address waits in a register.
 */
#include "free/real.h"

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
