/* SPDX-License-Identifier: MIT */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include "fixd/daemon.h"
#include "fixd/host/spawn.h"
#include "fixd/host/worker.h"
#include "fixd/loop/backend.h"
#include "fixd/serve/conn.h"
#include "fixd/work/build.h"
#include "image/memfd.h"
#include "image/region.h"
#include "peers.h"
#include "wire/job.h"
#include "wire/offer.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define CONNECTIONS_BEFORE_DEAR 64

/* No process has it: what is signalled is nobody. */
#define NO_PROCESS 4194303

static const char ini[] = "[fixd]\nio = epoll\nsocket = %s/socket\nallow-users = nobody\nuser-memory-max = 1M\nuser-connections-max = 3\n"
			  "[policy]\nmemory-max = 1M\ntimeout = 1m\nretry-after = 1ms\n"
			  "[fixture a]\ncommand = true\nwatch = %s/in*\n"
			  "[fixture b]\ncommand = true\nparams = 1, 2\ndepends = a\nenv = LANG\nmax-age = 1ms\n"
			  "[fixture c]\nplugin = none.so:c\ndepends = b[1]\n"
			  "[fixture d]\ntree = true\ncheck = true\nwatch-by = content\nwatch = %s/in*\n"
			  "[fixture e]\nservice = true\nready = line\nteardown = true\nreset = true\n"
			  "[fixture f]\nservice = true\nready = port\nexclusive = yes\ndepends = e, d\n"
			  "[fixture g]\ncommand = true\nscope = module\nmemory-max = 4K\nteardown = true\n";

#define TEMPLATE "/dev/shm/fuzz-XXXXXX" /* no disk is waited for */
static char dir[] = TEMPLATE;
/* What clients name: a directory with few files, whatever else is there. */
static char pattern[] = TEMPLATE "/in*", setting[] = "watch=" TEMPLATE "/in*";
static uid_t peer_uid;
/* Of all daemons, one after the other. */
static int inotify = -1, connection[2] = { -1, -1 };
static size_t n_daemons;      /* that have been begun */
static struct config *config; /* of the daemons; NULL: it is to be read */
/* What is published: sealed, not sealed, no memory file at all. */
#define FILES 7
static int files[FILES];
static uint64_t file_sizes[FILES];
struct inside inside;

_Noreturn static void die(const char *what)
{
	perror(what);
	abort();
}

/* Takes the place of base/log.c: lines are made, and nobody reads them. */

void log_init(const char *program, bool priorities)
{
	(void)program;
	(void)priorities;
}

void log_set_level(enum log_level level)
{
	(void)level;
}

bool log_enabled(enum log_level level)
{
	(void)level;
	return true;
}

void log_write(enum log_level level, int err, const char *fmt, ...)
{
	static char line[4096];
	int saved = errno;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "%d %s %d\n", (int)level, line, err);
	errno = saved;
}

/* Takes the place of fixd/host/spawn.c: the other end is ours. */

int spawn_init(void)
{
	return 0;
}

int spawn_helper(const char *user, enum spawn_flags flags, struct spawned *out)
{
	struct inside_helper *h = NULL;
	int pair[2], pipes[2];

	(void)user;
	(void)flags;
	for (size_t k = 0; k < INSIDE_HELPERS && !h; k++)
		h = inside.helpers[k].end < 0 ? &inside.helpers[k] : NULL;
	if (!h)
		return -EAGAIN;
	h->end = eventfd(0, EFD_CLOEXEC);
	if (h->end < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0 ||
	    pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		die("no helper");
	h->channel = pair[1];
	h->errors = pipes[1];
	*out = (struct spawned){ NO_PROCESS, fcntl(h->end, F_DUPFD_CLOEXEC, 0), pair[0], pipes[0] };
	return 0;
}

bool spawn_is_ending(pid_t pid)
{
	(void)pid;
	return true;
}

void spawn_reap(pid_t pid, siginfo_t *status)
{
	memset(status, 0, sizeof *status);
	status->si_pid = pid;
	status->si_code = CLD_EXITED;
}

/* Takes the place of fixd/host/worker.c: here and now. */

struct worker *worker_new(struct loop *l)
{
	(void)l;
	return NULL;
}

void worker_add(struct worker *w, struct work_item *item)
{
	(void)w;
	item->work(item->arg);
	item->done(item->arg);
}

void worker_wait(struct worker *w)
{
	(void)w;
}

void worker_abandon(struct worker *w)
{
	(void)w;
}

struct worker *worker_free(struct worker *w)
{
	(void)w;
	return NULL;
}

/* The end of an instance waits for all readers of the kernel's lists, some 20 ms: all daemons have the same one. */
int inotify_init1(int flags)
{
	if (inotify < 0)
		inotify = (int)syscall(SYS_inotify_init1, flags);
	return fcntl(inotify, F_DUPFD_CLOEXEC, 0);
}

int kill(pid_t pid, int sig)
{
	(void)pid;
	(void)sig;
	errno = ESRCH;
	return -1;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	int r = (int)syscall(SYS_getsockopt, fd, level, name, value, size);

	if (r == 0 && level == SOL_SOCKET && name == SO_PEERCRED)
		((struct ucred *)value)->uid = peer_uid;
	return r;
}

/* Once: they are only read. */
static void make_files(void)
{
	static char bytes[70000];
	static const size_t sizes[] = { 0, 1, 4096, sizeof bytes };
	int pair[2];

	if (files[0] > 0)
		return;
	memset(bytes, 'x', sizeof bytes);
	for (size_t k = 0; k < ELEMENTSOF(sizes); k++) {
		files[k] = memfd_from_bytes("fuzz", bytes, sizes[k]);
		file_sizes[k] = sizes[k];
	}
	files[4] = memfd_new("fuzz");
	if (pipe2(pair, O_CLOEXEC) < 0)
		die("pipe");
	files[5] = pair[0];
	close(pair[1]);
	files[6] = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

struct config *__real_config_free(struct config *c);
struct config *__wrap_config_free(struct config *c);

/* It is only read, and so serves all daemons; what one of them has read anew is its own. */
struct config *__wrap_config_free(struct config *c)
{
	return c == config ? NULL : __real_config_free(c);
}

static void begin_daemon(void)
{
	_cleanup_text_ struct text problems = { 0 };
	_cleanup_free_ char *path = xasprintf("%s/fixd.ini", dir);
	struct daemon_settings settings = { .log_level = -1, .idle_exit = DURATION_NONE };
	struct daemon *d = xcalloc(1, sizeof *d);
	sigset_t none;

	if (!config && config_load(path, &config, &problems) < 0) {
		fputs(problems.data, stderr);
		abort();
	}
	settings.config = config;
	settings.socket = xasprintf("%s/socket", dir);
	if (daemon_start(d, &settings) < 0)
		die("the daemon cannot be started");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	peers_begin(d->model.loop);
	inside.daemon = d;
}

/* Any daemon removes what it finds in /dev/shm of one that is gone, also of another fuzzer that is between two of its own. */
#define TREES "/dev/shm/fixd-fuzz-XXXXXX"
static char trees[] = TREES;

/* Once: a saved state goes on with the same files. */
static void make_directory(void)
{
	_cleanup_free_ char *path = NULL, *input = NULL;
	FILE *f;

	if (!mkdtemp(dir))
		die(dir);
	/* The commands of its fixtures are looked for at each start. */
	setenv("PATH", "/bin", 1);
	strcpy(trees, TREES);
	if (mkdtemp(trees))
		setenv("RUNTIME_DIRECTORY", trees, 1);
	memcpy(pattern, dir, strlen(dir));
	memcpy(strchr(setting, '/'), dir, strlen(dir));
	path = xasprintf("%s/fixd.ini", dir);
	input = xasprintf("%s/input", dir);
	f = fopen(path, "we");
	if (!f || fprintf(f, ini, dir, dir, dir) < 0 || fclose(f) || !(f = fopen(input, "we")) || fclose(f))
		die(path);
}

void inside_start(void)
{
	memset(&inside, 0xff, sizeof inside); /* no descriptor is open */
	memset(inside.conns, 0, sizeof inside.conns);
	inside.n_serials = 0;
	inside.last_id = 0;
	inside.n_connections = 0;
	n_daemons++;
	inside.stopped = false;
	peer_uid = geteuid();
	if (!strcmp(dir, TEMPLATE))
		make_directory();
	make_files();
	begin_daemon();
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* At any address. */
static void look_for_serial(const char *at)
{
	struct wire_image im;

	memcpy(&im, at, sizeof im);
	inside.serials[inside.n_serials++ % INSIDE_SERIALS] = im.serial;
}

/* The serials of images and the channel of an offer are all that matters of an answer. */
static void read_answer(void *arg, const struct packet *p)
{
	int *channel = arg;
	const char *message = p->data;
	struct wire_header h = { 0 };
	struct wire_attached a;

	memcpy(&h, message, p->size < sizeof h ? p->size : sizeof h);
	if (p->size < sizeof h || h.size != p->size || h.n_fds != p->n_fds)
		die("an answer is malformed");
	for (size_t k = 0; k < p->n_fds; k++) {
		if (fcntl(p->fds[k], F_GETFD) < 0)
			die("an answer passes what is not open");
	}
	if (h.type != (WIRE_TYPE_attach | WIRE_REPLY))
		return;
	memcpy(&a, message + sizeof h, sizeof a);
	for (size_t k = 0; k < a.n_images; k++)
		look_for_serial(message + sizeof h + sizeof a + k * sizeof(struct wire_image));
	if (a.flags & WIRE_ATTACHED_OFFER) {
		fd_close(*channel);
		*channel = fcntl(p->fds[0], F_DUPFD_CLOEXEC, 0);
	}
}

static void read_answers(unsigned conn)
{
	struct peer *p = inside.conns[conn];

	if (!p)
		return;
	peer_read(p, read_answer, &inside.channels[conn]);
	if (!peer_is_there(p))
		inside.conns[conn] = peer_leave(p);
}

void inside_turns(int n)
{
	struct daemon *d = inside.daemon;
	struct deferred end;

	for (; n > 0 && !inside.stopped; n--) {
		deferred_init(&end, stop, d->model.loop);
		loop_defer(d->model.loop, &end);
		if (loop_run(d->model.loop) < 0)
			die("the loop has failed");
		/* It has ended the loop itself. */
		deferred_cancel(&end);
		inside.stopped = d->model.stopping && !d->model.session && work_is_over(&d->work);
		d->model.loop->stopping = false;
		for (unsigned k = 0; k < INSIDE_CONNS; k++)
			read_answers(k);
	}
}

void inside_disconnect(unsigned conn)
{
	inside.conns[conn] = peer_leave(inside.conns[conn]);
	inside.channels[conn] = fd_close(inside.channels[conn]);
}

void inside_calm(void)
{
	for (unsigned k = 0; k < INSIDE_CONNS; k++)
		inside_disconnect(k);
	/* The end of one may begin another one: a teardown, a build again. */
	for (int k = 0; k < 4; k++) {
		for (unsigned h = 0; h < INSIDE_HELPERS; h++)
			inside_helper_ends(h);
		inside_turns(2);
	}
}

static void end_daemon(void)
{
	struct daemon *d = inside.daemon;

	if (!inside.stopped)
		d->server.control.stop(d);
	for (int k = 0; k < 100 && !inside.stopped; k++) {
		for (unsigned h = 0; h < INSIDE_HELPERS; h++)
			inside_helper_ends(h);
		inside_turns(1);
	}
	/* A keeper may be a process that lives on, for what a saved state says: that is waited for, but not here. */
	if (!inside.stopped && link_empty(&d->work.keepers))
		die("the daemon does not stop");
	inside.stopped = true;
	daemon_finish(d);
	free(d);
	inside.daemon = NULL;
}

void inside_end(void)
{
	if (!inside.daemon)
		return;
	inside_calm();
	end_daemon();
}

void inside_remove(void)
{
	static const char *const names[] = { "fixd.ini", "input", "socket.lock" };

	inside_end();
	inotify = fd_close(inotify);
	connection[0] = fd_close(connection[0]);
	connection[1] = fd_close(connection[1]);
	for (size_t k = 0; k < FILES; k++)
		files[k] = fd_close(files[k]);
	files[0] = 0;
	config = __real_config_free(config);
	n_daemons = 0;
	for (size_t k = 0; k < ELEMENTSOF(names); k++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", dir, names[k]);

		unlink(path);
	}
	if (rmdir(dir) < 0 && errno != ENOENT)
		die("the daemon has left something");
	rmdir(trees);
	strcpy(dir, TEMPLATE);
}

void inside_connect(unsigned conn, uid_t uid)
{
	int fd;

	inside_disconnect(conn);
	if (inside.stopped)
		return;
	/* One is enough to be asked who its peer is. */
	if (connection[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, connection) < 0)
		die("socketpair");
	fd = fcntl(connection[0], F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		die("a connection");
	inside.n_connections++;
	inside.conns[conn] = peer_new(fd);
	peer_uid = uid;
	conn_new(&inside.daemon->server, fd);
	peer_uid = geteuid();
	if (!peer_is_there(inside.conns[conn]))
		inside.conns[conn] = peer_leave(inside.conns[conn]);
}

static void say(unsigned conn, const void *data, size_t size)
{
	if (inside.conns[conn])
		peer_say(inside.conns[conn], data, size);
}

void inside_bytes(unsigned conn, struct input *in)
{
	static char bytes[WIRE_MESSAGE_MAX + 100];
	size_t n = input_u16(in) % sizeof bytes;

	input_take(in, bytes, n);
	say(conn, bytes, n);
}

/* A message under construction. */
struct message {
	size_t size;
	_Alignas(8) char bytes[2 * WIRE_MESSAGE_MAX];
};

static uint16_t put(struct message *m, const void *data, size_t size)
{
	memcpy(m->bytes + m->size, data, size);
	m->size += size;
	return (uint16_t)size;
}

static uint16_t put_string(struct message *m, struct input *in)
{
	static const char *const words[] = { "",      "a",	  "b[1]",	"b[2]",	   "c",	    "d",    "e",	"f",
					     "g",     "x",	  "x[1]",	"*",	   "b[*",   "?[",   "[a-",	"/",
					     "/tmp",  "..",	  "/nowhere",	"run",	   "other", "LANG", "one\ntwo", "x = 1",
					     "scope", "\xff\xfe", "name[param", "*\n*\n*", pattern, "e\n",  "a,b" };
	uint8_t kind = input_u8(in);
	char bytes[256];

	if (kind < 224)
		return put(m, words[kind % ELEMENTSOF(words)], strlen(words[kind % ELEMENTSOF(words)]));
	if (kind < 240) {
		input_take(in, bytes, kind - 223U);
		return put(m, bytes, kind - 223U);
	}
	memset(bytes, 'n', sizeof bytes);
	return put(m, bytes, (size_t)255 + (kind & 1));
}

/* NAME=value or key=value, each with its NUL. */
static uint16_t put_settings(struct message *m, struct input *in)
{
	static const char *const words[] = {
		"LANG=C",	 "A=1",		 "scope=session", setting,	 "max-age=1ms", "depends=x", "retry-after=1ms",
		"memory-max=4K", "run-only=yes", "params=1,2",	  "timeout=1ms", "doc=text",	"=",	     "command=true"
	};
	uint16_t size = 0;

	for (uint8_t n = input_u8(in) % 4; n > 0; n--) {
		const char *w = words[input_u8(in) % ELEMENTSOF(words)];

		size = (uint16_t)(size + put(m, w, strlen(w) + 1));
	}
	return size;
}

static uint64_t some_serial(struct input *in)
{
	uint8_t k = input_u8(in);

	return k < 240 ? inside.serials[k % INSIDE_SERIALS] : input_number(in);
}

static uint32_t some_time(struct input *in)
{
	static const uint32_t times[] = { 0, 1, 1000, 60000, UINT32_MAX };

	return times[input_u8(in) % ELEMENTSOF(times)];
}

static void add_hello(struct message *m, void *body, struct input *in)
{
	uint8_t v = input_u8(in);

	*(struct wire_hello *)body = (struct wire_hello){ .version = v < 250 ? WIRE_VERSION : v };
	(void)m;
}

static void add_join(struct message *m, void *body, struct input *in)
{
	struct wire_join *b = body;

	b->flags = input_u8(in) % 4;
	b->root = put_string(m, in);
	b->run = put_string(m, in);
}

static void add_define(struct message *m, void *body, struct input *in)
{
	struct wire_define *b = body;

	b->name = put_string(m, in);
	b->settings = put_settings(m, in);
}

static void add_attach(struct message *m, void *body, struct input *in)
{
	struct wire_attach *b = body;

	b->flags = input_u8(in) % 16;
	b->timeout_ms = some_time(in);
	b->name = put_string(m, in);
	b->key = input_u8(in) % 2 ? put_string(m, in) : 0;
	b->env = input_u8(in) % 2 ? put_settings(m, in) : 0;
	for (b->depends = input_u8(in) % 4; b->depends > 0 && m->size < WIRE_MESSAGE_MAX; b->depends--) {
		uint64_t serial = some_serial(in);

		put(m, &serial, sizeof serial);
	}
	b->depends = (uint16_t)((m->size - sizeof(struct wire_header) - sizeof *b - b->name - b->key - b->env) / 8);
}

static void add_serial(struct message *m, void *body, struct input *in)
{
	uint64_t numbers[2] = { some_serial(in), input_number(in) };

	memcpy(body, numbers, sizeof numbers);
	(void)m;
}

static void add_release(struct message *m, void *body, struct input *in)
{
	*(struct wire_release *)body = (struct wire_release){ some_serial(in), input_u8(in) % 4, some_time(in) };
	(void)m;
}

static void add_nothing(struct message *m, void *body, struct input *in)
{
	(void)m;
	(void)body;
	(void)in;
}

static void add_adopt(struct message *m, void *body, struct input *in)
{
	struct wire_adopt *b = body;

	b->flags = input_u8(in) % 2;
	b->pattern = put_string(m, in);
}

static void add_test(struct message *m, void *body, struct input *in)
{
	((struct wire_test *)body)->test = put_string(m, in);
}

static void add_used(struct message *m, void *body, struct input *in)
{
	*(struct wire_used *)body = (struct wire_used){ .serial = some_serial(in) };
	((struct wire_used *)body)->line = put_string(m, in);
}

static void add_relocate(struct message *m, void *body, struct input *in)
{
	struct wire_relocate *b = body;

	b->serial = some_serial(in);
	b->moves = input_u8(in) % 4;
	for (unsigned n = 0; n < b->moves; n++) {
		struct wire_move move = { REGION_BASE + input_u8(in) % 8 * REGION_ALIGN, input_number(in) / 4096 * 4096 };

		put(m, &move, sizeof move);
	}
}

static void add_query(struct message *m, void *body, struct input *in)
{
	struct wire_query *b = body;

	b->flags = input_u8(in) % 4;
	b->pattern = put_string(m, in);
}

static void add_events(struct message *m, void *body, struct input *in)
{
	*(struct wire_events *)body = (struct wire_events){ input_number(in), some_time(in), 0 };
	(void)m;
}

static void add_cleanup(struct message *m, void *body, struct input *in)
{
	struct wire_cleanup *b = body;

	b->flags = input_u8(in) % 32;
	b->older_than = input_u8(in) % 2 ? -1 : (int64_t)input_number(in);
	b->patterns = put_string(m, in);
}

/* By the number that the input names; restart is left out: it becomes another program. */
static const struct {
	uint16_t type;
	size_t fixed;
	void (*add)(struct message *m, void *body, struct input *in);
} requests[] = {
	{ WIRE_TYPE_hello, sizeof(struct wire_hello), add_hello },	 { WIRE_TYPE_join, sizeof(struct wire_join), add_join },
	{ WIRE_TYPE_define, sizeof(struct wire_define), add_define },	 { WIRE_TYPE_attach, sizeof(struct wire_attach), add_attach },
	{ WIRE_TYPE_detach, sizeof(struct wire_detach), add_serial },	 { WIRE_TYPE_release, sizeof(struct wire_release), add_release },
	{ WIRE_TYPE_closing, sizeof(struct wire_closing), add_nothing }, { WIRE_TYPE_adopt, sizeof(struct wire_adopt), add_adopt },
	{ WIRE_TYPE_test, sizeof(struct wire_test), add_test },		 { WIRE_TYPE_changed, sizeof(struct wire_changed), add_serial },
	{ WIRE_TYPE_used, sizeof(struct wire_used), add_used },		 { WIRE_TYPE_status, sizeof(struct wire_query), add_query },
	{ WIRE_TYPE_list, sizeof(struct wire_query), add_query },	 { WIRE_TYPE_log, sizeof(struct wire_query), add_query },
	{ WIRE_TYPE_events, sizeof(struct wire_events), add_events },	 { WIRE_TYPE_key, sizeof(struct wire_query), add_query },
	{ WIRE_TYPE_cleanup, sizeof(struct wire_cleanup), add_cleanup }, { WIRE_TYPE_attach, sizeof(struct wire_attach), add_attach },
	{ WIRE_TYPE_attach, sizeof(struct wire_attach), add_attach },	 { WIRE_TYPE_relocate, sizeof(struct wire_relocate), add_relocate },
	{ WIRE_TYPE_cleanup, sizeof(struct wire_cleanup), add_cleanup }, { WIRE_TYPE_reload, sizeof(struct wire_query), add_query },
	{ WIRE_TYPE_stop, sizeof(struct wire_query), add_query },
};

/* The last two cost as much as hundreds of others: one in so many is enough, but what has failed does so again. */
static bool may_be_dear(void)
{
	return inside.n_connections >= CONNECTIONS_BEFORE_DEAR || n_daemons == 1;
}

void inside_request(unsigned conn, struct input *in)
{
	static struct message m;
	uint8_t what = input_u8(in), damage = input_u8(in);
	size_t r = what % (what < 250 || !may_be_dear() ? ELEMENTSOF(requests) - 2 : ELEMENTSOF(requests));
	struct wire_header *h = (struct wire_header *)m.bytes;

	memset(m.bytes, 0, sizeof *h + requests[r].fixed);
	m.size = sizeof *h + requests[r].fixed;
	requests[r].add(&m, m.bytes + sizeof *h, in);
	*h = (struct wire_header){ .type = requests[r].type, .size = (uint32_t)m.size, .id = ++inside.last_id };
	if (damage >= 240) {
		uint16_t at = input_u16(in), v = input_u16(in);

		memcpy(m.bytes + at % (m.size - 1), &v, sizeof v);
	} else if (damage >= 232) {
		h->size = (uint32_t)(m.size -= m.size - sizeof *h < damage - 231U ? 0 : damage - 231U);
	}
	say(conn, m.bytes, m.size < WIRE_MESSAGE_MAX + 100 ? m.size : WIRE_MESSAGE_MAX + 100);
}

static void publish(int channel, const void *message, size_t size, struct input *in)
{
	uint8_t a = input_u8(in), b = input_u8(in);
	int fds[2] = { files[a % FILES], files[b % FILES] };

	if (socket_send(channel, message, size, fds, a < 200 ? 1 : a < 240 ? 2 : 0, MSG_DONTWAIT) == -EINVAL)
		die("send to the daemon");
}

static uint64_t some_size(struct input *in)
{
	uint8_t k = input_u8(in);

	return k < 192 ? file_sizes[k % 4] : input_number(in);
}

void inside_helper_says(unsigned helper, struct input *in)
{
	struct inside_helper *h = &inside.helpers[helper];
	uint8_t what = input_u8(in);
	char bytes[sizeof(struct job_result) + JOB_SENTENCE_MAX + 8] = { 0 };
	struct job_result r = { .message = what % 6 };
	char sent[4096];

	if (h->channel < 0)
		return;
	while (recv(h->channel, sent, sizeof sent, MSG_DONTWAIT) > 0)
		;
	if (what < 64) {
		struct job_grant g = { .message = JOB_GRANT, .total = input_number(in) };

		publish(h->channel, &g, sizeof g, &(struct input){ (const uint8_t *)"\xff", 1 });
	} else if (what < 72) {
		size_t n = input_u16(in) % sizeof bytes;

		input_take(in, bytes, n);
		publish(h->channel, bytes, n, in);
	} else if (what < 76) {
		struct job_handover m = { .message = JOB_PARTS + what % 4U, .up = input_u8(in) % 2 };

		publish(h->channel, &m, sizeof m, in);
	} else if (what < 80) {
		if (write(h->errors, "words\n\0more", 11) < 0 && errno != EAGAIN && errno != EPIPE)
			die("write");
	} else {
		if (what >= 128)
			r.message = JOB_RESULT;
		r.error = what % 4 ? 0 : -(int32_t)input_u8(in);
		r.size = some_size(in);
		r.root = input_u8(in) % 2 ? 0 : input_number(in);
		r.tree_bytes = input_u8(in) % 2 ? 0 : input_number(in);
		r.service = input_u8(in) % 2 ? NO_PROCESS : (uint32_t)input_number(in);
		r.digest.low = input_u8(in);
		r.inputs.low = input_u8(in);
		r.sentence = input_u8(in);
		memcpy(bytes, &r, sizeof r);
		memset(bytes + sizeof r, 's', r.sentence);
		publish(h->channel, bytes, sizeof r + r.sentence, in);
	}
}

void inside_helper_ends(unsigned helper)
{
	struct inside_helper *h = &inside.helpers[helper];

	if (h->end < 0)
		return;
	eventfd_write(h->end, 1);
	h->end = fd_close(h->end);
	h->channel = fd_close(h->channel);
	h->errors = fd_close(h->errors);
}

void inside_builder_says(unsigned conn, struct input *in)
{
	uint8_t what = input_u8(in);
	char bytes[sizeof(struct offer_abort) + OFFER_SENTENCE_MAX + 8];
	struct offer_commit c = { .message = OFFER_COMMIT, .flags = what % 8 };

	if (inside.channels[conn] < 0)
		return;
	if (what < 192) {
		c.size = some_size(in);
		c.digest.low = input_u8(in);
		publish(inside.channels[conn], &c, sizeof c, in);
	} else if (what < 224) {
		struct offer_abort a = { .message = OFFER_ABORT, .sentence = input_u16(in) };

		memcpy(bytes, &a, sizeof a);
		memset(bytes + sizeof a, 's', 100);
		publish(inside.channels[conn], bytes, sizeof a + 100, &(struct input){ (const uint8_t *)"\xff", 1 });
	} else if (what < 240) {
		size_t n = input_u16(in) % sizeof bytes;

		input_take(in, bytes, n);
		publish(inside.channels[conn], bytes, n, in);
	} else {
		inside.channels[conn] = fd_close(inside.channels[conn]);
	}
}
