/* SPDX-License-Identifier: MIT */
#include "client/trap.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <ucontext.h>
#include <unistd.h>

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))

/* SYS_SECCOMP, of the kernel's headers, which do not go with libc's. */
#define OF_FILTER 1

/* The upper halves of addresses in one stretch differ in these bits only. */
#define STRETCH_BITS (uint32_t)((TRAP_STRETCH >> 32) - 1)
#define STRETCHES 16

/* Of a socket; what is asked for is behind a pointer. */
#define ADDRESS_SIZE 128

/* What a call writes, a row for each pointer: to the memory in argument `pointer`, as many bytes as argument `length` says times `unit`;
   or `unit` bytes. */
static const struct call {
	int number;
	int8_t pointer, length;
	uint32_t unit;
} calls[] = {
	{ SYS_read, 1, 2, 1 },
	{ SYS_pread64, 1, 2, 1 },
	{ SYS_recvfrom, 1, 2, 1 },
	{ SYS_getrandom, 0, 1, 1 },
	{ SYS_getcwd, 0, 1, 1 },
	{ SYS_readlinkat, 2, 3, 1 },
	{ SYS_getdents64, 1, 2, 1 },
	{ SYS_getxattr, 2, 3, 1 },
	{ SYS_lgetxattr, 2, 3, 1 },
	{ SYS_fgetxattr, 2, 3, 1 },
	{ SYS_fstat, 1, -1, sizeof(struct stat) },
	{ SYS_newfstatat, 2, -1, sizeof(struct stat) },
	{ SYS_statx, 4, -1, 256 },
	{ SYS_pipe2, 0, -1, 2 * sizeof(int) },
	{ SYS_socketpair, 3, -1, 2 * sizeof(int) },
	{ SYS_uname, 0, -1, 390 },
	{ SYS_sysinfo, 0, -1, 112 },
	{ SYS_clock_gettime, 1, -1, sizeof(struct timespec) },
	{ SYS_ppoll, 0, 1, 8 },
	{ SYS_recvfrom, 4, -1, ADDRESS_SIZE },
	{ SYS_accept, 1, -1, ADDRESS_SIZE },
	{ SYS_accept4, 1, -1, ADDRESS_SIZE },
	{ SYS_getsockname, 1, -1, ADDRESS_SIZE },
	{ SYS_getpeername, 1, -1, ADDRESS_SIZE },
	{ SYS_getsockopt, 3, -1, ADDRESS_SIZE },
	{ SYS_recvfrom, 5, -1, sizeof(socklen_t) },
	{ SYS_accept, 2, -1, sizeof(socklen_t) },
	{ SYS_accept4, 2, -1, sizeof(socklen_t) },
	{ SYS_getsockname, 2, -1, sizeof(socklen_t) },
	{ SYS_getpeername, 2, -1, sizeof(socklen_t) },
	{ SYS_getsockopt, 4, -1, sizeof(socklen_t) },
	{ SYS_wait4, 1, -1, sizeof(int) },
	{ SYS_wait4, 3, -1, sizeof(struct rusage) },
	{ SYS_waitid, 2, -1, sizeof(siginfo_t) },
	{ SYS_waitid, 4, -1, sizeof(struct rusage) },
	{ SYS_rt_sigprocmask, 2, 3, 1 },
	{ SYS_rt_sigpending, 0, 1, 1 },
	{ SYS_rt_sigtimedwait, 1, -1, sizeof(siginfo_t) },
	{ SYS_getresuid, 0, -1, sizeof(uid_t) },
	{ SYS_getresuid, 1, -1, sizeof(uid_t) },
	{ SYS_getresuid, 2, -1, sizeof(uid_t) },
	{ SYS_getresgid, 0, -1, sizeof(gid_t) },
	{ SYS_getresgid, 1, -1, sizeof(gid_t) },
	{ SYS_getresgid, 2, -1, sizeof(gid_t) },
	{ SYS_prctl, 1, -1, 16 },
	{ SYS_capget, 1, -1, 24 },
	{ SYS_getrusage, 1, -1, sizeof(struct rusage) },
	{ SYS_prlimit64, 3, -1, 16 },
	{ SYS_times, 0, -1, 32 },
	{ SYS_ioctl, 2, -1, 64 },
	{ SYS_epoll_pwait, 1, 2, sizeof(struct epoll_event) },
	{ SYS_pselect6, 1, -1, 128 },
	{ SYS_pselect6, 2, -1, 128 },
	{ SYS_pselect6, 3, -1, 128 },
	{ SYS_nanosleep, 1, -1, sizeof(struct timespec) },
	{ SYS_clock_nanosleep, 3, -1, sizeof(struct timespec) },
	{ SYS_timerfd_gettime, 1, -1, 32 },
	{ SYS_timerfd_settime, 3, -1, 32 },
	{ SYS_timer_create, 2, -1, sizeof(int) },
	{ SYS_timer_gettime, 1, -1, 32 },
	{ SYS_timer_settime, 3, -1, 32 },
	{ SYS_getitimer, 1, -1, 32 },
	{ SYS_setitimer, 2, -1, 32 },
	{ SYS_gettimeofday, 0, -1, 16 },
	{ SYS_clock_getres, 1, -1, sizeof(struct timespec) },
	{ SYS_clock_adjtime, 1, -1, sizeof(struct timex) },
	{ SYS_adjtimex, 0, -1, sizeof(struct timex) },
	{ SYS_statfs, 1, -1, sizeof(struct statfs) },
	{ SYS_fstatfs, 1, -1, sizeof(struct statfs) },
	{ SYS_listxattr, 1, 2, 1 },
	{ SYS_flistxattr, 1, 2, 1 },
	{ SYS_sched_getaffinity, 2, 1, 1 },
	{ SYS_sched_getparam, 1, -1, sizeof(int) },
	{ SYS_sched_getattr, 1, 2, 1 },
	{ SYS_sched_rr_get_interval, 1, -1, sizeof(struct timespec) },
	{ SYS_getcpu, 0, -1, sizeof(unsigned) },
	{ SYS_getcpu, 1, -1, sizeof(unsigned) },
	{ SYS_getgroups, 1, 0, sizeof(gid_t) },
	{ SYS_mq_timedreceive, 1, 2, 1 },
	{ SYS_mq_timedreceive, 3, -1, sizeof(unsigned) },
	{ SYS_mq_getsetattr, 2, -1, 64 },
	{ SYS_msgrcv, 1, 2, 1 }, /* and the type in front of that, which is in the same page or is named by itself */
	{ SYS_msgrcv, 1, -1, sizeof(long) },
	{ SYS_msgctl, 2, -1, sizeof(struct msqid_ds) },
	{ SYS_shmctl, 2, -1, sizeof(struct shmid_ds) },
	{ SYS_semctl, 3, -1, sizeof(struct semid_ds) },
	{ SYS_fcntl, 2, -1, sizeof(struct flock) },
	{ SYS_llistxattr, 1, 2, 1 },
	{ SYS_name_to_handle_at, 2, -1, 8 + 128 },
	{ SYS_name_to_handle_at, 3, -1, sizeof(int) },
	{ SYS_splice, 1, -1, 8 },
	{ SYS_splice, 3, -1, 8 },
	{ SYS_io_getevents, 3, 2, 32 },
	{ SYS_syslog, 1, 2, 1 },
	{ SYS_keyctl, 2, 3, 1 },
	{ SYS_sendfile, 2, -1, 8 },
	{ SYS_copy_file_range, 1, -1, 8 },
	{ SYS_copy_file_range, 3, -1, 8 },
#ifdef SYS_readlink
	{ SYS_readlink, 1, 2, 1 },
	{ SYS_stat, 1, -1, sizeof(struct stat) },
	{ SYS_lstat, 1, -1, sizeof(struct stat) },
	{ SYS_poll, 0, 1, 8 },
	{ SYS_getrlimit, 1, -1, 16 },
	{ SYS_time, 0, -1, sizeof(time_t) },
	{ SYS_pipe, 0, -1, 2 * sizeof(int) },
	{ SYS_epoll_wait, 1, 2, sizeof(struct epoll_event) },
	{ SYS_select, 1, -1, 128 },
	{ SYS_select, 2, -1, 128 },
	{ SYS_select, 3, -1, 128 },
#endif
};

static trap_fn told;
static uint32_t stretches[STRETCHES];
static size_t n_stretches;
static struct sigaction before; /* the program's for SIGSYS */

/* The call, made at one place of which the filter knows the address: that one is let through. */
long trap_make_call(long number, const uint64_t arguments[6]) __attribute__((visibility("hidden")));
extern const char trap_made[] __attribute__((visibility("hidden")));

#if defined __x86_64__
#define ARCH AUDIT_ARCH_X86_64
__asm__(".text\n"
	".globl trap_make_call, trap_made\n"
	".type trap_make_call, @function\n"
	"trap_make_call:\n"
	"	mov	%rdi, %rax\n"
	"	mov	40(%rsi), %r9\n"
	"	mov	32(%rsi), %r8\n"
	"	mov	24(%rsi), %r10\n"
	"	mov	16(%rsi), %rdx\n"
	"	mov	(%rsi), %rdi\n"
	"	mov	8(%rsi), %rsi\n"
	"	syscall\n"
	"trap_made:\n"
	"	ret\n");

static uint64_t argument_of(const ucontext_t *u, size_t i)
{
	static const int order[] = { REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 };

	return (uint64_t)u->uc_mcontext.gregs[order[i]];
}

static void set_result(ucontext_t *u, long result)
{
	u->uc_mcontext.gregs[REG_RAX] = result;
}

static const void *trap_place_of(const ucontext_t *u)
{
	return (const void *)u->uc_mcontext.gregs[REG_RIP];
}
#elif defined __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
__asm__(".text\n"
	".globl trap_make_call, trap_made\n"
	".type trap_make_call, %function\n"
	"trap_make_call:\n"
	"	mov	x8, x0\n"
	"	mov	x9, x1\n"
	"	ldp	x0, x1, [x9]\n"
	"	ldp	x2, x3, [x9, 16]\n"
	"	ldp	x4, x5, [x9, 32]\n"
	"	svc	0\n"
	"trap_made:\n"
	"	ret\n");

static uint64_t argument_of(const ucontext_t *u, size_t i)
{
	return u->uc_mcontext.regs[i];
}

static void set_result(ucontext_t *u, long result)
{
	u->uc_mcontext.regs[0] = (uint64_t)result;
}

static const void *trap_place_of(const ucontext_t *u)
{
	return (const void *)u->uc_mcontext.pc;
}
#endif

#ifdef ARCH
static const struct call *call_of(int number)
{
	for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
		if (calls[i].number == number)
			return &calls[i];
	}
	return NULL;
}

static void trap_pass_on(int sig, siginfo_t *si, void *context)
{
	if (before.sa_flags & SA_SIGINFO) {
		before.sa_sigaction(sig, si, context);
	} else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
		before.sa_handler(sig);
	} else {
		sigaction(sig, &before, NULL);
		raise(sig);
	}
}

/* The end of a handler brings back the mask from before it, which the call was to change. */
static void keep_mask(ucontext_t *u)
{
	const uint64_t a[6] = { SIG_BLOCK, 0, (uintptr_t)&u->uc_sigmask, _NSIG / 8 };

	trap_make_call(SYS_rt_sigprocmask, a);
}

static void on_trap(int sig, siginfo_t *si, void *context)
{
	const struct call *c = si->si_code == OF_FILTER ? call_of(si->si_syscall) : NULL;
	int saved = errno;
	uint64_t a[6];

	if (!c) {
		trap_pass_on(sig, si, context);
		return;
	}
	for (size_t i = 0; i < ELEMENTSOF(a); i++)
		a[i] = argument_of(context, i);
	for (; c < calls + ELEMENTSOF(calls); c++) {
		if (c->number == si->si_syscall)
			told(a[c->pointer], c->length < 0 ? c->unit : a[c->length] * c->unit, trap_place_of(context));
	}
	errno = saved;
	set_result(context, trap_make_call(si->si_syscall, a));
	if (si->si_syscall == SYS_rt_sigprocmask)
		keep_mask(context);
}

struct text {
	uint64_t start, end;
};

/* The instructions of libc: of the object that has read(2). */
static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	uintptr_t one = (uintptr_t)&read;
	struct text *t = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + p->p_vaddr;

		if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && one >= start && one < start + p->p_memsz) {
			*t = (struct text){ start, start + p->p_memsz };
			return 1;
		}
	}
	return 0;
}

/* Both machines have the lower half first. */
#define LOWER(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
#define UPPER(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field) + 4)
#define UNLESS(test, k, skip) BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(k), 0, skip)
#define IF(test, k, skip) BPF_JUMP(BPF_JMP | (test) | BPF_K, (uint32_t)(k), skip, 0)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)

/* The number first: for a call that is not in the table the kernel then need not run the filter at all. */
#define HEAD 3
#define ROW 12

static int add_filter(uint32_t stretch, const struct text *text)
{
	struct sock_filter f[HEAD + ROW * ELEMENTSOF(calls) + 1] = { LOWER(arch), IF(BPF_JEQ, ARCH, 1), RETURN(SECCOMP_RET_ALLOW) };
	struct sock_fprog program = { ELEMENTSOF(f), f };
	size_t n = HEAD;
	long r;

	for (size_t i = 0; i < ELEMENTSOF(calls); i++, n += ROW) {
		const struct sock_filter row[ROW] = {
			LOWER(nr),
			UNLESS(BPF_JEQ, calls[i].number, ROW - 2),
			UPPER(args[calls[i].pointer]),
			BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~STRETCH_BITS),
			UNLESS(BPF_JEQ, stretch, ROW - 5),
			UPPER(instruction_pointer),
			UNLESS(BPF_JGE, text->start >> 32, 4),
			IF(BPF_JGT, text->end >> 32, 3),
			LOWER(instruction_pointer),
			IF(BPF_JEQ, (uintptr_t)trap_made, 1),
			RETURN(SECCOMP_RET_TRAP),
			RETURN(SECCOMP_RET_ALLOW),
		};

		memcpy(&f[n], row, sizeof row);
	}
	f[n] = (struct sock_filter)RETURN(SECCOMP_RET_ALLOW);
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	/* A process without rights to lose may add one if it promises to gain none. */
	if (r < 0 && errno == EACCES && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	/* A number above 0 is that of a thread which has filters of its own. */
	return r > 0 ? -EBUSY : r < 0 ? -errno : 0;
}

/* Where the program has its own memory, every call would be trapped. */
static bool is_crowded(uint32_t stretch)
{
	const uintptr_t own[] = { (uintptr_t)&stretch, (uintptr_t)&told, (uintptr_t)&read };

	for (size_t i = 0; i < ELEMENTSOF(own); i++) {
		if (((uint32_t)(own[i] >> 32) & ~STRETCH_BITS) == stretch)
			return true;
	}
	return false;
}

int trap_install(uintptr_t address, trap_fn fn)
{
	struct sigaction ours = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | SA_NODEFER };
	uint32_t stretch = (uint32_t)(address >> 32) & ~STRETCH_BITS;
	struct text text;
	int r;

	for (size_t i = 0; i < n_stretches; i++) {
		if (stretches[i] == stretch)
			return 0;
	}
	if (n_stretches == STRETCHES || is_crowded(stretch) || !dl_iterate_phdr(find_text, &text))
		return -ENOTSUP;
	told = fn;
	if (n_stretches == 0 && sigaction(SIGSYS, &ours, &before) < 0)
		return -errno;
	r = add_filter(stretch, &text);
	if (r == 0)
		stretches[n_stretches++] = stretch;
	else if (n_stretches == 0)
		sigaction(SIGSYS, &before, NULL);
	return r;
}
#else
int trap_install(uintptr_t address, trap_fn fn)
{
	return -ENOTSUP;
}
#endif
