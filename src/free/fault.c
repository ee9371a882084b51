/* SPDX-License-Identifier: MIT */
/*
 * A write to a read-only view is a mistake of the program, which dies of it as it should; here it is told which fixture it was.
 * A handler of the program's own is called afterwards, as the kernel would have called it.
 */
#include "free/free.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

bool (*fault_path)(char *path, size_t room);

static bool watching;
static bool (*asked)(const siginfo_t *si, void *context);
static pid_t home;			/* whose handler this is: a child between vfork() and exec has its parent's memory */
static struct sigaction program_action; /* what the program believes is installed for SIGSEGV */

static uint64_t take_hex(const char **p)
{
	uint64_t n = 0;

	for (;; ++*p) {
		char c = **p;

		if (c >= '0' && c <= '9')
			n = n * 16 + (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n * 16 + (uint64_t)(c - 'a' + 10);
		else
			return n;
	}
}

/* "start-end access offset device inode   path" */
static bool parse(const char *line, uintptr_t address, struct mapped *m)
{
	const char *p = line;

	m->start = take_hex(&p);
	p += *p == '-';
	m->end = take_hex(&p);
	if (address < m->start || address >= m->end)
		return false;
	p += *p == ' ';
	memcpy(m->access, p, sizeof m->access);
	p += sizeof m->access + 1;
	m->offset = take_hex(&p);
	p = strchr(p, '/');
	*m->path = '\0';
	if (p) {
		size_t n = strlen(p);

		memcpy(m->path, p, n < sizeof m->path ? n + 1 : 0);
	}
	return true;
}

/* Plain system calls: this also runs in a signal handler. */
bool mapping_of(uintptr_t address, struct mapped *m, char *buf, size_t room)
{
	size_t have = 0;
	bool found = false;
	long fd = kernel(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0), n;

	if (fd < 0)
		return false;
	while (!found && (n = kernel(SYS_read, fd, buf + have, room - 1 - have)) > 0) {
		char *line = buf, *end;

		have += (size_t)n;
		buf[have] = '\0';
		while (!found && (end = strchr(line, '\n'))) {
			*end = '\0';
			found = parse(line, address, m);
			line = end + 1;
		}
		have -= (size_t)(line - buf);
		memmove(buf, line, have);
		if (have == room - 1)
			have = 0; /* a path that is longer than paths are */
	}
	kernel(SYS_close, fd);
	return found;
}

static size_t put_hex(char *out, uint64_t n)
{
	char digits[16];
	size_t length = 0;

	do {
		digits[length++] = "0123456789abcdef"[n % 16];
		n /= 16;
	} while (n);
	for (size_t i = 0; i < length; i++)
		out[i] = digits[length - 1 - i];
	return length;
}

static void explain(const siginfo_t *si)
{
	static const char sealed[] = "/memfd:fixd:", middle[] = ": write to a read-only view, at offset 0x", at[] = " (address 0x";
	/* The handler's stack may be small: one explanation at a time. */
	struct explanation {
		struct mapped m;
		char buf[PATH_MAX + 256];
	} * e;
	static _Atomic(void *) large;
	static atomic_flag busy = ATOMIC_FLAG_INIT;
	uintptr_t address = (uintptr_t)si->si_addr;
	char offset[16], where[16];
	const char *name;
	size_t length;

	if (si->si_code != SEGV_ACCERR || atomic_flag_test_and_set(&busy))
		return;
	e = large_get(&large, sizeof *e);
	if (!e || !mapping_of(address, &e->m, e->buf, sizeof e->buf) || e->m.access[0] != 'r' || e->m.access[1] == 'w')
		goto done;
	name = e->m.path;
	if (!strncmp(name, sealed, sizeof sealed - 1)) {
		char *deleted = strstr(name, " (deleted)");

		name += sizeof sealed - 1;
		if (deleted)
			*deleted = '\0';
	} else if (!fault_path || !fault_path(e->m.path, sizeof e->m.path)) {
		goto done;
	}
	length = strlen(name);
	{
		struct iovec parts[] = {
			{ (void *)"fixd: ", 6 },
			{ (void *)name, length },
			{ (void *)middle, sizeof middle - 1 },
			{ offset, put_hex(offset, e->m.offset + (address - e->m.start)) },
			{ (void *)at, sizeof at - 1 },
			{ where, put_hex(where, address) },
			{ (void *)")\n", 2 },
		};

		if (writev(STDERR_FILENO, parts, sizeof parts / sizeof *parts) < 0)
			goto done; /* nobody can be told */
	}
done:
	atomic_flag_clear(&busy);
}

/* The default action, on the way back from the handler. */
static void die(const siginfo_t *si)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	REAL(sigaction)(SIGSEGV, &action, NULL);
	/* Sent by somebody: returning would not cause it again. */
	if (si->si_code <= 0)
		kernel(SYS_tgkill, getpid(), kernel(SYS_gettid), SIGSEGV);
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	struct sigaction action = program_action;
	int saved = errno;

	if (asked && asked(si, context))
		return;
	explain(si);
	errno = saved;
	if (action.sa_flags & SA_RESETHAND)
		program_action = (struct sigaction){ .sa_handler = SIG_DFL };
	if (action.sa_flags & SA_SIGINFO)
		action.sa_sigaction(sig, si, context);
	else if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)
		die(si);
	else
		action.sa_handler(sig);
}

/* Ours in place of the program's, with its mask and flags. */
static struct sigaction in_place_of(const struct sigaction *wanted)
{
	struct sigaction ours = *wanted;

	if ((wanted->sa_flags & SA_SIGINFO) || wanted->sa_handler != SIG_IGN || asked) {
		ours.sa_sigaction = on_fault;
		ours.sa_flags |= SA_SIGINFO;
	}
	if (asked)
		ours.sa_flags &= ~(int)SA_RESETHAND;
	return ours;
}

/* glibc's by its other name: at the start of a program nothing is looked up. */
int __sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict old) __attribute__((weak));

/* pthread_atfork() of glibc, which musl has by another name. */
int __register_atfork(void (*before)(void), void (*parent)(void), void (*child)(void), void *library) __attribute__((weak));
extern void *__dso_handle;

static void is_home(void)
{
	home = getpid();
}

__attribute__((constructor(102))) static void begin(void)
{
	struct sigaction none = { .sa_handler = SIG_DFL }, ours = in_place_of(&none), had;
	int (*install)(int, const struct sigaction *restrict, struct sigaction *restrict) = __sigaction ? __sigaction : REAL(sigaction);
	int saved = errno;

	if (install(SIGSEGV, NULL, &had) < 0 || (had.sa_flags & SA_SIGINFO) || had.sa_handler != SIG_DFL) {
		/* Who has installed something before this, in a constructor, keeps it to himself. */
		errno = saved;
		return;
	}
	watching = install(SIGSEGV, &ours, NULL) == 0;
	is_home();
	if (__register_atfork)
		__register_atfork(NULL, NULL, is_home, __dso_handle);
	errno = saved;
}

bool fixd_free_asks(bool (*fn)(const siginfo_t *, void *))
{
	/* A program of a run may have these files twice: the shim's, and those it is linked with. */
	bool (*next)(bool (*)(const siginfo_t *, void *)) = watching ? NULL : (__typeof__(next))dlsym(RTLD_NEXT, "fixd_free_asks");
	struct sigaction ours;

	if (!watching)
		return next && next(fn);
	if (asked == fn)
		return true;
	asked = fn;
	ours = in_place_of(&program_action);
	return REAL(sigaction)(SIGSEGV, &ours, NULL) == 0;
}

static inline bool is_program_business(int sig)
{
	return likely(sig != SIGSEGV) || !watching || getpid() != home;
}

SHIM int sigaction(int sig, const struct sigaction *restrict action, struct sigaction *restrict old)
{
	struct sigaction had = program_action;

	if (is_program_business(sig))
		return REAL(sigaction)(sig, action, old);
	if (action) {
		struct sigaction ours = in_place_of(action);

		program_action = *action;
		if (REAL(sigaction)(SIGSEGV, &ours, NULL) < 0) {
			program_action = had;
			return -1;
		}
	}
	if (old)
		*old = had;
	return 0;
}

static sighandler_t set_handler(int sig, sighandler_t handler, int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags }, old;

	if (!(flags & SA_NODEFER))
		sigaddset(&action.sa_mask, sig);
	return sigaction(sig, &action, &old) < 0 ? SIG_ERR : old.sa_handler;
}

SHIM sighandler_t signal(int sig, sighandler_t handler)
{
	if (is_program_business(sig))
		return REAL(signal)(sig, handler);
	return set_handler(sig, handler, SA_RESTART);
}
SHIM_ALIAS(bsd_signal, signal);
SHIM_ALIAS(ssignal, signal);

sighandler_t __sysv_signal(int sig, sighandler_t handler);

SHIM sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	if (is_program_business(sig))
		return REAL(__sysv_signal)(sig, handler);
	return set_handler(sig, handler, (int)SA_RESETHAND | SA_NODEFER);
}
SHIM_ALIAS(sysv_signal, __sysv_signal);
