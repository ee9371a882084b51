/* SPDX-License-Identifier: MIT */
/*
 * What `fixctl run` costs those who notice nothing of it. Every figure is of two programs: this one as a child, in a run and
 * without, in turn.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

#define READERS 40
#define OPEN_TURNS 500
#define ROUNDS_MAX 101

/* The children. */

typedef int open_function(const char *path, int flags, ...);
typedef int close_function(int fd);

static double open_some(open_function *do_open, close_function *do_close, const char *path)
{
	enum { N = 200 };
	double start = measure_now();

	for (int i = 0; i < N; i++) {
		int fd = do_open(path, O_RDONLY | O_CLOEXEC);

		if (fd < 0 || do_close(fd) < 0)
			bench_die("%s: %s", path, strerror(errno));
	}
	return (measure_now() - start) / N * 1e9;
}

/* What programs see and what libc has, in short turns: two processes differ by more than the shim costs. */
static void open_both(const char *path)
{
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
	open_function *real_open = libc ? (open_function *)dlsym(libc, "open") : NULL;
	close_function *real_close = libc ? (close_function *)dlsym(libc, "close") : NULL;
	double seen[OPEN_TURNS], real[OPEN_TURNS];

	if (!real_open || !real_close)
		bench_die("%s", dlerror());
	for (int i = 0; i < OPEN_TURNS; i++) {
		bool first = i % 2;

		if (first)
			seen[i] = open_some(open, close, path);
		real[i] = open_some(real_open, real_close, path);
		if (!first)
			seen[i] = open_some(open, close, path);
	}
	for (int i = 0; i < OPEN_TURNS; i++)
		printf("%f %f\n", seen[i], real[i]);
}

static double map_many(const char *path, int n)
{
	double start = measure_now();

	for (int i = 0; i < n; i++) {
		struct stat st;
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		void *p;

		if (fd < 0 || fstat(fd, &st) < 0 || (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
			bench_die("%s: %s", path, strerror(errno));
		close(fd);
		munmap(p, (size_t)st.st_size);
	}
	return (measure_now() - start) / n * 1e6;
}

static double start_many(const char *path, int n)
{
	char *argv[] = { (char *)path, NULL };
	double start = measure_now();

	for (int i = 0; i < n; i++) {
		pid_t pid;
		int status;

		if (posix_spawn(&pid, path, NULL, NULL, argv, environ) != 0 || waitpid(pid, &status, 0) != pid || status)
			bench_die("%s does not run", path);
	}
	return (measure_now() - start) / n * 1e6;
}

/* Reads all of it, says so, and stays until its input is closed. */
static void read_all(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const char *p;
	unsigned long sum = 0;
	char byte;

	if (fd < 0 || fstat(fd, &st) < 0 || (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
		bench_die("%s: %s", path, strerror(errno));
	for (off_t i = 0; i < st.st_size; i += 64)
		sum += (unsigned char)p[i];
	if (write(STDOUT_FILENO, sum ? "y" : "n", 1) != 1 || read(STDIN_FILENO, &byte, 1) < 0)
		bench_die("nobody is there");
	_exit(0);
}

/* READERS processes: summed PSS in MiB and the time until all have read. */
static void read_by_many(const char *path, double *mib, double *seconds)
{
	int says[2], stays[2];
	pid_t pids[READERS];
	double start = measure_now();
	char byte;

	if (pipe(says) < 0 || pipe(stays) < 0)
		bench_die("no pipe");
	for (int i = 0; i < READERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			dup2(says[1], STDOUT_FILENO);
			dup2(stays[0], STDIN_FILENO);
			close(stays[1]);
			read_all(path);
		}
	}
	for (int i = 0; i < READERS; i++) {
		if (read(says[0], &byte, 1) != 1 || byte != 'y')
			bench_die("a reader has failed");
	}
	*seconds = measure_now() - start;
	*mib = 0;
	for (int i = 0; i < READERS; i++)
		*mib += (double)measure_proc_kib(pids[i], "smaps_rollup", "Pss: %ld") / 1024;
	close(stays[1]);
	close(stays[0]);
	for (int i = 0; i < READERS; i++)
		waitpid(pids[i], NULL, 0);
	close(says[0]);
	close(says[1]);
}

int bench_run_child(int argc, char **argv)
{
	const char *what = argv[2], *path = argv[3];
	int n = argc > 4 ? atoi(argv[4]) : 1;
	double mib, seconds;

	if (!strcmp(what, "open"))
		open_both(path);
	else if (!strcmp(what, "map"))
		printf("%f\n", map_many(path, n));
	else if (!strcmp(what, "start"))
		printf("%f\n", start_many(path, n));
	else {
		read_by_many(path, &mib, &seconds);
		printf("%f %f\n", mib, seconds);
	}
	return 0;
}

/* The benchmark. */

static char fixctl[4096], self[4096];

static void ask(const struct bench_daemon *d, bool in_run, const char *what, const char *path, int n, double *a, double *b)
{
	char command[16384];
	FILE *f;

	snprintf(command, sizeof command, "cd %s/project && %s%s%s%s%s child %s %s %d", d->dir, in_run ? fixctl : "",
		 in_run ? " --socket " : "", in_run ? d->socket : "", in_run ? " run --isolate=shim -- " : "", self, what, path, n);
	f = popen(command, "re");
	if (!f || fscanf(f, "%lf", a) != 1 || (b && fscanf(f, "%lf", b) != 1) || pclose(f) != 0)
		bench_die("failed: %s", command);
}

/*
 * In turn; what the first of each says is thrown away. The machine may become faster or slower in between, so that it is each pair
 * that has a ratio.
 */
static void compare(const struct bench_daemon *d, const char *what, const char *ours, const char *theirs, int n, int rounds, struct row row)
{
	double with_it[ROUNDS_MAX], without[ROUNDS_MAX], ratios[ROUNDS_MAX], warm;

	ask(d, true, what, ours, n, &warm, NULL);
	for (int r = 0; r < rounds; r++) {
		ask(d, true, what, ours, n, &with_it[r], NULL);
		ask(d, false, what, theirs, n, &without[r], NULL);
		ratios[r] = with_it[r] / without[r];
	}
	row.ours = measure_quantile(with_it, rounds, 0.5);
	row.ours_p99 = measure_quantile(with_it, rounds, 0.99);
	row.theirs = measure_quantile(without, rounds, 0.5);
	row.theirs_p99 = measure_quantile(without, rounds, 0.99);
	row_add_paired(row, measure_quantile(ratios, rounds, 0.5));
}

/* A million opens either way, in several processes: in each, things lie elsewhere. */
static void compare_opens(const struct bench_daemon *d, const char *what, const char *path)
{
	enum { PROCESSES = 10, ALL = PROCESSES * OPEN_TURNS };
	static double seen[ALL], real[ALL], ratios[ALL];
	char command[16384];

	snprintf(command, sizeof command, "cd %s/project && %s --socket %s run --isolate=shim -- %s child open %s", d->dir, fixctl,
		 d->socket, self, path);
	for (int i = 0; i < ALL; i += OPEN_TURNS) {
		FILE *f = popen(command, "re");

		for (int k = i; f && k < i + OPEN_TURNS; k++) {
			if (fscanf(f, "%lf %lf", &seen[k], &real[k]) != 2)
				bench_die("failed: %s", command);
			ratios[k] = seen[k] / real[k];
		}
		if (!f || pclose(f) != 0)
			bench_die("failed: %s", command);
	}
	row_add_paired((struct row){ .what = what,
				     .against = "libc's own open() in the same process",
				     .unit = "ns",
				     .reach = 1.02,
				     .ours = measure_quantile(seen, ALL, 0.5),
				     .ours_p99 = measure_quantile(seen, ALL, 0.99),
				     .theirs = measure_quantile(real, ALL, 0.5),
				     .theirs_p99 = measure_quantile(real, ALL, 0.99) },
		       measure_quantile(ratios, ALL, 0.5));
}

static double time_of(const char *command)
{
	double start = measure_now();

	if (system(command) != 0)
		bench_die("failed: %s", command);
	return (measure_now() - start) * 1e3;
}

static void start_of_a_run(const struct bench_daemon *d)
{
	enum { ROUNDS = 51 };
	static const char *const modes[] = { "shim", "mount" };

	for (int m = 0; m < 2; m++) {
		double more[ROUNDS];
		char command[8192], what[64];

		snprintf(command, sizeof command, "exec %s --socket %s run --isolate=%s -- true", fixctl, d->socket, modes[m]);
		time_of(command);
		for (int r = 0; r < ROUNDS; r++)
			more[r] = time_of(command) - time_of("exec true");
		snprintf(what, sizeof what, "a run, over starting the command (%s)", modes[m]);
		figure_add(what, "ms", measure_quantile(more, ROUNDS, 0.5), 10);
		snprintf(what, sizeof what, "the same, p99 (%s)", modes[m]);
		figure_add(what, "ms", measure_quantile(more, ROUNDS, 0.99), 0);
	}
}

static void many_readers(const struct bench_daemon *d)
{
	double pss, seconds, plain_pss, plain_seconds;

	ask(d, true, "read", "data/large.bin", 1, &pss, &seconds);
	ask(d, true, "read", "data/large.bin", 1, &pss, &seconds);
	ask(d, false, "read", "large.bin", 1, &plain_pss, &plain_seconds);
	row_add((struct row){ .what = "40 readers of 300 MiB, summed PSS",
			      .against = "the same file on the disk, in the page cache",
			      .unit = "MiB",
			      .ours = pss,
			      .ours_p99 = pss,
			      .theirs = plain_pss,
			      .theirs_p99 = plain_pss });
	row_add((struct row){ .what = "40 readers of 300 MiB, all have read",
			      .against = "the same file on the disk, in the page cache",
			      .unit = "s",
			      .ours = seconds,
			      .ours_p99 = seconds,
			      .theirs = plain_seconds,
			      .theirs_p99 = plain_seconds });
}

void bench_run(void)
{
	static const char ini[] = "[fixd]\nroot = project\n"
				  "[fixture big]\nfile = big.bin\npath = data/big.bin\n"
				  "[fixture large]\nfile = large.bin\npath = data/large.bin\n"
				  "[fixture tree]\ndirectory = sub\npath = data/tree\n";
	struct bench_daemon d;
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	char command[8192], shm[64];

	if (n <= 0 || !getenv("FIXD_BUILD"))
		bench_die("FIXD_BUILD is not set");
	snprintf(fixctl, sizeof fixctl, "%s/fixctl", getenv("FIXD_BUILD"));
	snprintf(shm, sizeof shm, "/dev/shm/fixd-bench-%d", (int)getpid());
	/* The directories must be there when the daemon reads its file. */
	d = bench_daemon_start("", -1);
	snprintf(
		command, sizeof command,
		"mkdir -p %s/project/sub && head -c 64M /dev/urandom >%s/project/big.bin && head -c 300M /dev/urandom >%s/project/large.bin && "
		"echo x >%s/project/sub/file && cp %s/project/big.bin %s",
		d.dir, d.dir, d.dir, d.dir, d.dir, shm);
	if (system(command) != 0)
		bench_die("failed: %s", command);
	FILE *f = fopen(bench_path(&d, "fixd.ini"), "w");
	if (!f || fputs(ini, f) < 0 || fclose(f) != 0)
		bench_die("fixd.ini cannot be written");
	snprintf(command, sizeof command, "%s --socket %s reload", fixctl, d.socket);
	if (system(command) != 0)
		bench_die("failed: %s", command);

	snprintf(command, sizeof command, "%s/project/sub/file", d.dir);
	compare_opens(&d, "open of an uncovered absolute path", command);
	compare_opens(&d, "open of an uncovered relative path", "sub/file");
	compare(&d, "start", "/bin/true", "/bin/true", 2000, 11,
		(struct row){ .what = "start of a program in a run", .against = "without the shim", .unit = "us", .reach = 1.15 });
	compare(&d, "map", "data/big.bin", shm, 4000, ROUNDS_MAX,
		(struct row){ .what = "open, fstat, mmap of a 64 MiB fixture", .against = "a file on tmpfs", .unit = "us", .reach = 3 });
	start_of_a_run(&d);
	many_readers(&d);
	unlink(shm);
	bench_daemon_stop(&d);
}
