/* SPDX-License-Identifier: MIT */
/*
 * fixctl doctor: what fixd would like of this machine, a finding for each, and what to do about what is missing. It changes nothing
 * and needs no daemon.
 */
#include <errno.h>
#include <getopt.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/fd.h"
#include "base/units.h"
#include "base/userns.h"
#include "fixctl/fixctl.h"
#include "fixctl/run.h"
#include "image/cow.h"
#include "image/region.h"
#include "image/space.h"

/* One thing this machine has or lacks. */
struct finding {
	bool ok;
	char *detail; /* what was found, or what is lacking and what to do about it; to be freed */
};

static char *read_setting(const char *path)
{
	char *text;

	if (file_read_all(path, 4096, &text, NULL) < 0)
		return NULL;
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static struct finding check_ring(void)
{
	struct io_uring_params p = { 0 };
	_cleanup_fd_ int fd = (int)syscall(SYS_io_uring_setup, 4, &p);
	int err = fd < 0 ? errno : 0;
	_cleanup_free_ char *disabled = read_setting("/proc/sys/kernel/io_uring_disabled");

	if (fd >= 0)
		return (struct finding){ true, xstrdup("the daemon can use the ring") };
	if (err == EPERM && disabled && strcmp(disabled, "0"))
		return (struct finding){ false, xasprintf("kernel.io_uring_disabled is %s; the daemon uses epoll. "
							  "'sysctl kernel.io_uring_disabled=0' allows it",
							  disabled) };
	if (err == EPERM || err == ENOSYS)
		return (struct finding){ false, xstrdup("refused, probably by a container's seccomp filter; the daemon uses epoll") };
	return (struct finding){ false, xasprintf("%s; the daemon uses epoll", strerror(err)) };
}

static struct finding check_scan(void)
{
	if (cow_has_scan())
		return (struct finding){ true, xstrdup("resets use PAGEMAP_SCAN") };
	return (struct finding){ false, xstrdup("no PAGEMAP_SCAN (Linux 6.7): resets read /proc/self/pagemap, which is slower") };
}

static struct finding check_huge(void)
{
	struct space s;
	int r = space_init(&s, "fixd:doctor", REGION_BASE + REGION_SIZE - REGION_ALIGN, REGION_ALIGN, REGION_ALIGN, HUGE_PAGES_YES), err;

	if (r < 0)
		return (struct finding){ false, xasprintf("the address region cannot be mapped: %s", strerror(-r)) };
	space_extend(&s, SPACE_STEP, &err);
	r = s.huge_from_start;
	space_deinit(&s);
	if (r)
		return (struct finding){ true, xstrdup("images can have huge pages (MADV_COLLAPSE)") };
	return (struct finding){ false, xstrdup("MADV_COLLAPSE (Linux 6.1) does not work: large images have 4 KiB pages, first "
						"touches are slower") };
}

static struct finding check_region(void)
{
	void *want = (void *)(uintptr_t)REGION_BASE;
	void *p = mmap(want, REGION_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == want) {
		munmap(p, REGION_SIZE);
		return (struct finding){ true, xasprintf("0x%llx is free", (unsigned long long)REGION_BASE) };
	}
	return (struct finding){ false, xasprintf("0x%llx is not free in this process; set address-base in fixd.ini",
						  (unsigned long long)REGION_BASE) };
}

static struct finding check_files(void)
{
	struct rlimit r = { 0 };

	getrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_max > 4096)
		return (struct finding){ true, xasprintf("%llu open files are allowed", (unsigned long long)r.rlim_max) };
	return (struct finding){ false, xasprintf("only %llu open files are allowed: one is needed for each image and each client; "
						  "raise 'ulimit -Hn'",
						  (unsigned long long)r.rlim_max) };
}

static struct finding check_inotify(void)
{
	_cleanup_free_ char *watches = read_setting("/proc/sys/fs/inotify/max_user_watches");
	uint64_t n = 0;

	if (!watches || parse_u64(watches, 10, UINT64_MAX, &n) < 0)
		return (struct finding){ false, xstrdup("no inotify: watched files are looked at on every attach") };
	if (n >= 8192)
		return (struct finding){ true, xasprintf("%llu inotify watches are allowed", (unsigned long long)n) };
	return (struct finding){ false, xasprintf("only %llu inotify watches are allowed; raise fs.inotify.max_user_watches",
						  (unsigned long long)n) };
}

static struct finding check_tmpfs(void)
{
	const char *places[] = { getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run" }, *best = NULL;
	bool noexec = false;
	uint64_t most = 0;
	char size[32];

	for (size_t i = 0; i < ELEMENTSOF(places); i++) {
		struct statfs fs;

		if (!places[i] || statfs(places[i], &fs) < 0 || fs.f_type != TMPFS_MAGIC || access(places[i], W_OK) < 0)
			continue;
		if ((uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > most) {
			most = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
			best = places[i];
			noexec = fs.f_flags & ST_NOEXEC;
		}
	}
	if (!best)
		return (struct finding){ false, xstrdup("no tmpfs can be written to ($XDG_RUNTIME_DIR, /dev/shm, /run): directory "
							"fixtures will fail") };
	return (struct finding){ true,
				 xasprintf("%s has room for trees: %s%s", best, format_size(size, sizeof size, most),
					   noexec ? "; it is mounted noexec: without mounts 'fixctl run' copies what it starts" : "") };
}

static struct finding check_memory(void)
{
	uint64_t n = cgroup_memory_max();
	char size[32];

	if (n == UINT64_MAX)
		return (struct finding){ true, xstrdup("no memory limit of a control group") };
	return (struct finding){ true, xasprintf("a control group allows %s: memory-max in fixd.ini must be smaller, the kernel "
						 "kills at the limit",
						 format_size(size, sizeof size, n)) };
}

static struct finding check_mounts(void)
{
	_cleanup_free_ char *why = mounts_refused();

	if (!why)
		return (struct finding){ true, xstrdup("'fixctl run' can show trees by overlayfs in a mount namespace") };
	return (struct finding){ false,
				 xasprintf("'fixctl run' shows fixtures by the shim alone, which static programs do not see: %s", why) };
}

/* In the first process of a new PID namespace. */
static int mount_proc(void)
{
	return mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
			       mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0
		       ? -errno
		       : 0;
}

static int exit_status_of(pid_t pid)
{
	int status = 0;

	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid < 0 || !WIFEXITED(status) ? EAGAIN : WEXITSTATUS(status);
}

/* What a service on data, or a clone, gets besides what mounts_refused() tries; in a process that ends after it. An errno, or 0. */
static int enter_sandbox(void)
{
	int flags = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID, r = 0;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	pid_t pid;

	if (uid != 0 || unshare(flags) < 0)
		r = unshare(flags | CLONE_NEWUSER) < 0 ? -errno : userns_map(uid, gid);
	if (r < 0)
		return -r;
	pid = fork();
	if (pid == 0)
		_exit(-mount_proc());
	return exit_status_of(pid);
}

static struct finding check_sandboxes(void)
{
	_cleanup_free_ char *why = mounts_refused();
	pid_t pid = why ? 0 : fork();
	int err;

	if (!why && pid == 0)
		_exit(enter_sandbox());
	err = why ? 0 : exit_status_of(pid);
	if (err)
		why = xasprintf("no PID and IPC namespaces, or no /proc in them (a container's filter): %s", strerror(err));
	if (!why)
		return (struct finding){ true, xstrdup("services with data or clones run in namespaces of their own") };
	return (struct finding){
		false, xasprintf("services with data or clones get copies of their data, and no namespaces of their own: %s", why)
	};
}

static const struct {
	const char *name;
	struct finding (*check)(void);
} checks[] = {
	{ "io_uring", check_ring },    { "dirty pages", check_scan },	  { "huge pages", check_huge }, { "address region", check_region },
	{ "open files", check_files }, { "inotify", check_inotify },	  { "tmpfs", check_tmpfs },	{ "memory", check_memory },
	{ "mounts", check_mounts },    { "namespaces", check_sandboxes },
};

static int doctor_run(struct fixctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { NULL, 0, NULL, 0 } };
	json_t *all = json_array();
	int c;

	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (c != 'j')
			ctl_bad_option("doctor");
		ctl->json = true;
	}
	ctl_expect("doctor", argc, argv, 0, 0, NULL);
	for (size_t i = 0; i < ELEMENTSOF(checks); i++) {
		struct finding f = checks[i].check();

		if (!ctl->json)
			printf("%s%-5s%s %s: %s\n", f.ok ? GREEN : YELLOW, f.ok ? "ok" : "lacks", PLAIN, checks[i].name, f.detail);
		json_array_append_new(all, json_pack("{s:s, s:b, s:s}", "name", checks[i].name, "ok", f.ok, "detail", f.detail));
		free(f.detail);
	}
	if (ctl->json)
		ctl_print_json(all);
	json_decref(all);
	return EXIT_SUCCESS;
}

const struct fixctl_command command_doctor = {
	.name = "doctor",
	.json = true,
	.run = doctor_run,
	.summary = "what this machine lacks, and what to do about it",
	.help = "doctor [--json]\n"
		"Checks the kernel features and limits that fixd uses. Needs no daemon. What is lacking makes something slower or\n"
		"impossible, which the line says.\n"
		"\n"
		"  -j, --json  as JSON: name, ok, detail of each",
};
