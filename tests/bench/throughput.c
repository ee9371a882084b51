/* SPDX-License-Identifier: MIT */
/*
 * 200 clients asking in a loop, all in one process that sends and receives the raw messages: of fixd attach and detach, of
 * redis GET of an 8-byte value, over Unix sockets, with the server on one processor and the clients on the other.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define CLIENTS 200
#define SECONDS 2.0
#define SAMPLES_MAX 2000000

struct client {
	int fd;
	double asked;
	uint64_t serial; /* of the image it holds */
};

struct load {
	struct client clients[CLIENTS];
	/* Sends the next request; takes an answer. */
	void (*ask)(struct client *c);
	void (*take)(struct client *c);
	double *latencies;
	size_t n;
};

static int connect_to(const char *path, int type)
{
	struct sockaddr_storage address;
	socklen_t length;
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || socket_address(path, &address, &length) < 0 || connect(fd, (struct sockaddr *)&address, length) < 0)
		bench_die("%s: %s", path, strerror(errno));
	return fd;
}

static void send_request(int fd, uint16_t type, const void *body, size_t size)
{
	char message[256];
	struct wire_header h = { .type = type, .size = (uint32_t)(sizeof h + size), .id = 1 };

	memcpy(message, &h, sizeof h);
	memcpy(message + sizeof h, body, size);
	if (socket_send(fd, message, sizeof h + size, NULL, 0, 0) < 0)
		bench_die("the daemon has hung up");
}

static void ask_fixd(struct client *c)
{
	struct {
		struct wire_attach a;
		char name[5];
	} ask = { { .timeout_ms = 10000, .name = 5 }, "image" };

	struct wire_detach detach = { .serial = c->serial };

	if (c->serial)
		send_request(c->fd, WIRE_TYPE_detach, &detach, sizeof detach);
	send_request(c->fd, WIRE_TYPE_attach, &ask, sizeof ask.a + sizeof ask.name);
}

static void take_fixd(struct client *c)
{
	char message[512];
	struct wire_image im;
	size_t n_fds = 1;
	int fd = -1;
	ssize_t n = socket_receive(c->fd, message, sizeof message, &fd, &n_fds, 0);

	if (n < (ssize_t)(sizeof(struct wire_header) + sizeof(struct wire_attached) + sizeof im) || n_fds != 1)
		bench_die("the daemon does not answer");
	memcpy(&im, message + sizeof(struct wire_header) + sizeof(struct wire_attached), sizeof im);
	c->serial = im.serial;
	close(fd);
}

static void ask_redis(struct client *c)
{
	static const char get[] = "*2\r\n$3\r\nGET\r\n$5\r\nimage\r\n";

	if (send(c->fd, get, sizeof get - 1, MSG_NOSIGNAL) != sizeof get - 1)
		bench_die("redis has hung up");
}

static void take_redis(struct client *c)
{
	char answer[64];
	ssize_t n = recv(c->fd, answer, sizeof answer, 0);

	if (n < 14)
		bench_die("redis does not answer");
}

/* Requests a second of wall time; *per_cpu: a second of the server's CPU time. */
static double run_load(struct load *l, pid_t server, double *per_cpu)
{
	int poll = epoll_create1(EPOLL_CLOEXEC);
	double start, cpu;

	for (int i = 0; i < CLIENTS; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = (uint32_t)i };

		epoll_ctl(poll, EPOLL_CTL_ADD, l->clients[i].fd, &e);
		l->clients[i].asked = measure_now();
		l->ask(&l->clients[i]);
	}
	start = measure_now();
	cpu = bench_cpu_s(server);
	l->n = 0;
	while (measure_now() - start < SECONDS) {
		struct epoll_event events[CLIENTS];
		int n = epoll_wait(poll, events, CLIENTS, 10000);

		if (n <= 0)
			bench_die("the server does not answer");
		for (int i = 0; i < n; i++) {
			struct client *c = &l->clients[events[i].data.u32];
			double now;

			l->take(c);
			now = measure_now();
			if (l->n < SAMPLES_MAX)
				l->latencies[l->n++] = (now - c->asked) * 1e6;
			c->asked = now;
			l->ask(c);
		}
	}
	*per_cpu = (double)l->n / (bench_cpu_s(server) - cpu);
	for (int i = 0; i < CLIENTS; i++)
		l->take(&l->clients[i]);
	close(poll);
	return (double)l->n / SECONDS;
}

static pid_t start_redis(char *path, size_t size)
{
	pid_t pid;

	snprintf(path, size, "/tmp/fixd-bench-redis-%d", (int)getpid());
	pid = fork();
	if (pid == 0) {
		bench_pin(0);
		execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--logfile",
		       "/dev/null", (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 5000 && access(path, F_OK) < 0; i++) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			return -1;
		usleep(1000);
	}
	return pid;
}

static void open_fixd(struct load *l, const struct bench_daemon *d)
{
	const struct wire_hello hello = { .version = WIRE_VERSION };

	for (int i = 0; i < CLIENTS; i++) {
		char message[64];
		size_t n_fds = 1;
		int board;

		l->clients[i].fd = connect_to(d->socket, SOCK_SEQPACKET);
		send_request(l->clients[i].fd, WIRE_TYPE_hello, &hello, sizeof hello);
		if (socket_receive(l->clients[i].fd, message, sizeof message, &board, &n_fds, 0) <= 0)
			bench_die("no welcome");
		close(board);
	}
	l->ask = ask_fixd;
	l->take = take_fixd;
}

static void open_redis(struct load *l, const char *path)
{
	static const char set[] = "*3\r\n$3\r\nSET\r\n$5\r\nimage\r\n$8\r\n12345678\r\n";
	char answer[16];

	for (int i = 0; i < CLIENTS; i++)
		l->clients[i].fd = connect_to(path, SOCK_STREAM);
	if (send(l->clients[0].fd, set, sizeof set - 1, 0) < 0 || recv(l->clients[0].fd, answer, sizeof answer, 0) <= 0)
		bench_die("redis does not answer");
	l->ask = ask_redis;
	l->take = take_redis;
}

void bench_throughput(void)
{
	enum { ROUNDS = 5 };
	static struct load fixd, redis;
	double ours[ROUNDS], theirs[ROUNDS], wall[ROUNDS], redis_wall[ROUNDS];
	double p99 = 0, redis_p99 = 0, p50 = 0, redis_p50 = 0;
	struct bench_daemon d = bench_daemon_start("[policy]\nmax-age = none\n[fixture image]\ncommand = head -c 1M /dev/zero\n", 0);
	char path[64];
	pid_t server = start_redis(path, sizeof path);

	fixd.latencies = calloc(SAMPLES_MAX, sizeof(double));
	redis.latencies = calloc(SAMPLES_MAX, sizeof(double));
	bench_pin(1);
	open_fixd(&fixd, &d);
	if (server < 0)
		printf("redis-server is not installed: no comparison\n");
	else
		open_redis(&redis, path);
	for (int r = 0; r < ROUNDS; r++) {
		wall[r] = run_load(&fixd, d.pid, &ours[r]);
		p50 = measure_quantile(fixd.latencies, fixd.n, 0.5);
		p99 = measure_quantile(fixd.latencies, fixd.n, 0.99);
		theirs[r] = redis_wall[r] = 1;
		if (server < 0)
			continue;
		redis_wall[r] = run_load(&redis, server, &theirs[r]);
		redis_p50 = measure_quantile(redis.latencies, redis.n, 0.5);
		redis_p99 = measure_quantile(redis.latencies, redis.n, 0.99);
	}
	row_add((struct row){ "200 clients: requests per s of server CPU", "redis GET of 8 bytes", "/s",
			      measure_quantile(ours, ROUNDS, 0.5), measure_quantile(ours, ROUNDS, 0.01),
			      measure_quantile(theirs, ROUNDS, 0.5), measure_quantile(theirs, ROUNDS, 0.01), 1, true });
	row_add((struct row){ "200 clients: requests per s of wall time", "the same; attach moves a descriptor, GET 8 bytes", "/s",
			      measure_quantile(wall, ROUNDS, 0.5), measure_quantile(wall, ROUNDS, 0.01),
			      measure_quantile(redis_wall, ROUNDS, 0.5), measure_quantile(redis_wall, ROUNDS, 0.01), 0, true });
	row_add((struct row){ "200 clients: latency", "the same", "us", p50, p99, redis_p50 ? redis_p50 : 1, redis_p99, 0, false });
	for (int i = 0; i < CLIENTS; i++) {
		close(fixd.clients[i].fd);
		close(redis.clients[i].fd);
	}
	free(fixd.latencies);
	free(redis.latencies);
	bench_daemon_stop(&d);
	if (server > 0) {
		kill(server, SIGKILL);
		waitpid(server, NULL, 0);
		unlink(path);
	}
}
