/* SPDX-License-Identifier: MIT */
/* What another user's floods cost: attaches of one user, alone and while another one asks for as much as it can. */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fixd.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define NOBODY 65534
#define N_INSTANCES 1000
#define N_ATTACHES 2000
#define N_ASKERS 16   /* connections that ask without end */
#define N_WAITERS 400 /* connections that wait, */
#define N_WAITS 250   /* each for so many */
#define LIMIT_US 5000.0
#define LIMIT_RATIO 10

static const char *socket_path;

static int dial(void)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || socket_address(socket_path, &address, &length) < 0 || connect(fd, (struct sockaddr *)&address, length) < 0)
		_exit(1);
	return fd;
}

static void say(int fd, uint16_t type, const void *body, size_t size, const void *tail, size_t tail_size, int flags)
{
	char message[8192];
	struct wire_header h = { .type = type, .size = (uint32_t)(sizeof h + size + tail_size), .id = 1 };

	memcpy(message, &h, sizeof h);
	memcpy(message + sizeof h, body, size);
	if (tail_size)
		memcpy(message + sizeof h + size, tail, tail_size);
	send(fd, message, h.size, MSG_NOSIGNAL | flags);
}

static void hear(int fd, int flags)
{
	char answer[WIRE_MESSAGE_MAX];
	int fds[16];
	size_t n = 16;

	if (socket_receive(fd, answer, sizeof answer, fds, &n, flags) > 0) {
		while (n > 0)
			close(fds[--n]);
	}
}

static int greeted(void)
{
	struct wire_hello hello = { .version = WIRE_VERSION };
	int fd = dial();

	say(fd, WIRE_TYPE_hello, &hello, sizeof hello, NULL, 0, 0);
	hear(fd, 0);
	return fd;
}

static void attach_to(int fd, const char *name, const char *key, uint32_t timeout_ms)
{
	struct wire_attach a = { .timeout_ms = timeout_ms, .name = (uint16_t)strlen(name), .key = (uint16_t)strlen(key) };
	char tail[128];

	snprintf(tail, sizeof tail, "%s%s", name, key);
	say(fd, WIRE_TYPE_attach, &a, sizeof a, tail, strlen(tail), 0);
}

static void ask_cleanup(int fd)
{
	char patterns[2048] = "";
	struct wire_cleanup c = { .older_than = -1 };

	for (int i = 0; i < 20; i++)
		strcat(patterns, "*b*[ab]*b*[ab]*b*[ab]*b*[ab]*b*[ab]*b*[ab]*b*[ab]*b*[ab]c\n");
	c.patterns = (uint16_t)strlen(patterns);
	say(fd, WIRE_TYPE_cleanup, &c, sizeof c, patterns, strlen(patterns), MSG_DONTWAIT);
}

static void ask_query(int fd, uint16_t type)
{
	struct wire_query q = { 0 };

	say(fd, type, &q, sizeof q, NULL, 0, MSG_DONTWAIT);
}

static void ask_status(int fd)
{
	ask_query(fd, WIRE_TYPE_status);
}

static void ask_list(int fd)
{
	ask_query(fd, WIRE_TYPE_list);
}

static void ask_events(int fd)
{
	struct wire_events q = { .from = 1 };

	say(fd, WIRE_TYPE_events, &q, sizeof q, NULL, 0, MSG_DONTWAIT);
}

/* As many requests as fit into the sockets; the answers are taken. */
_Noreturn static void ask_without_end(void (*ask)(int fd), int ready)
{
	struct pollfd all[N_ASKERS];

	for (int i = 0; i < N_ASKERS; i++)
		all[i] = (struct pollfd){ .fd = greeted(), .events = POLLIN | POLLOUT };
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;) {
		poll(all, N_ASKERS, -1);
		for (int i = 0; i < N_ASKERS; i++) {
			if (all[i].revents & POLLIN)
				hear(all[i].fd, MSG_DONTWAIT);
			if (all[i].revents & POLLOUT)
				ask(all[i].fd);
		}
	}
}

_Noreturn static void wait_without_end(void (*ask)(int fd), int ready)
{
	(void)ask;
	for (int i = 0; i < N_WAITERS; i++) {
		int fd = greeted();

		for (int n = 0; n < N_WAITS; n++)
			attach_to(fd, "slow", "", 600000);
	}
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

_Noreturn static void connect_without_end(void (*ask)(int fd), int ready)
{
	(void)ask;
	if (write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		close(dial());
}

static const struct flood {
	const char *name;
	void (*run)(void (*ask)(int fd), int ready);
	void (*ask)(int fd);
} floods[] = {
	{ "clean-ups by slow globs", ask_without_end, ask_cleanup },
	{ "status of 1,000 instances", ask_without_end, ask_status },
	{ "events", ask_without_end, ask_events },
	{ "list of 1,000 fixtures", ask_without_end, ask_list },
	{ "100,000 attaches that wait", wait_without_end, NULL },
	{ "connections that come and go", connect_without_end, NULL },
};

static void become_nobody(void)
{
	struct rlimit r = { 4096, 4096 };

	setrlimit(RLIMIT_NOFILE, &r);
	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		_exit(1);
}

static pid_t begin(const struct flood *f)
{
	int pipes[2];
	char byte;
	pid_t pid;

	if (pipe(pipes) < 0)
		bench_die("no pipe");
	pid = fork();
	if (pid == 0) {
		become_nobody();
		f->run(f->ask, pipes[1]);
	}
	close(pipes[1]);
	if (read(pipes[0], &byte, 1) != 1)
		bench_die("the flood of %s does not begin", f->name);
	close(pipes[0]);
	return pid;
}

static void make_instances(void)
{
	int fd = greeted();

	for (int i = 0; i < N_INSTANCES; i++) {
		char key[128];

		snprintf(key, sizeof key, "%.*s.py::t%d", 60, "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", i);
		attach_to(fd, "many", key, 60000);
		hear(fd, 0);
	}
	close(fd);
}

static void measure(struct fixd *f, double *us)
{
	for (int i = 0; i < N_ATTACHES; i++) {
		double start = measure_now();
		struct fixd_view *v;

		if (fixd_attach(f, "image", NULL, &v) < 0)
			bench_die("%s", fixd_error(f));
		us[i] = (measure_now() - start) * 1e6;
		fixd_detach(v);
		usleep(500);
	}
}

static char *make_ini(void)
{
	size_t size = (N_INSTANCES + 10) * 64, n;
	char *ini = malloc(size);

	n = (size_t)snprintf(ini, size,
			     "[fixd]\nallow-users = nobody\n[policy]\nmax-age = none\n[fixture image]\ncommand = echo x\n"
			     "[fixture slow]\ncommand = sleep 600\ntimeout = 20m\n[fixture many]\nscope = function\ncommand = echo\n");
	for (int i = 0; i < N_INSTANCES; i++)
		n += (size_t)snprintf(ini + n, size - n, "[fixture f%d]\ncommand = echo\n", i);
	return ini;
}

void bench_floods(void)
{
	static double quiet[N_ATTACHES], us[N_ATTACHES];
	char *ini = make_ini();
	struct bench_daemon d;
	struct fixd *f;

	if (geteuid() != 0) {
		printf("floods need another user: not measured without root\n");
		free(ini);
		return;
	}
	d = bench_daemon_start(ini, -1);
	free(ini);
	if (chmod(d.dir, 0755) < 0)
		bench_die("chmod: %s", strerror(errno));
	socket_path = d.socket;
	make_instances();
	if (fixd_open(&f, d.socket) < 0)
		bench_die("%s", fixd_error(NULL));
	measure(f, quiet);
	for (size_t k = 0; k < sizeof floods / sizeof *floods; k++) {
		static char what[96], limit[64];
		pid_t pid = begin(&floods[k]);

		measure(f, us);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		snprintf(what, sizeof what, "attach p99, %s", floods[k].name);
		snprintf(limit, sizeof limit, "%s, absolute", floods[k].name);
		row_add((struct row){ what, "the same while nobody else asks", "us", measure_quantile(us, N_ATTACHES, 0.99),
				      measure_quantile(us, N_ATTACHES, 1), measure_quantile(quiet, N_ATTACHES, 0.99),
				      measure_quantile(quiet, N_ATTACHES, 1), LIMIT_RATIO, false });
		figure_add(limit, "us", measure_quantile(us, N_ATTACHES, 0.99), LIMIT_US);
	}
	fixd_close(f);
	bench_daemon_stop(&d);
}
