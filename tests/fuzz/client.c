/* SPDX-License-Identifier: MIT */
/*
 * libfixd believes no daemon: whatever a hostile one answers, each call ends with 0 or a sentence, what can be read of a view is
 * there, and no descriptor is left. The daemon's answers wait in the socket before they are asked for.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "fixd.h"
#include "image/memfd.h"
#include "input.h"
#include "wire/offer.h"
#include "wire/socket.h"
#include "wire/wire.h"

#define N_FILES 9
#define ADDRESS UINT64_C(0x7e9000000000)
#define ANSWERS_MAX 40

static struct input input;
static int files[N_FILES], peers[16], channel = -1;
static size_t n_peers;
static uint64_t sizes[N_FILES];
static bool ready;

void fuzz_end(void)
{
	for (size_t k = 0; ready && k < N_FILES; k++)
		fd_close(files[k]);
	ready = false;
}

static void make_files(void)
{
	static char bytes[70000];
	int pair[2];

	sizes[1] = 1;
	sizes[2] = 4096;
	sizes[3] = sizeof bytes;
	for (size_t k = 0; k < 4; k++)
		files[k] = memfd_from_bytes("fuzz", bytes, sizes[k]);
	files[4] = memfd_new("fuzz");
	if (pipe2(pair, O_CLOEXEC) < 0)
		abort();
	files[5] = pair[0];
	close(pair[1]);
	files[6] = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* A board is like this: it keeps its size, but is written to. */
	files[7] = memfd_new("board");
	sizes[7] = WIRE_BOARD_SLOTS * 8;
	if (ftruncate(files[7], (off_t)sizes[7]) < 0)
		abort();
	files[8] = open("/dev/null", O_RDWR | O_CLOEXEC);
	ready = true;
}

static struct wire_image some_image(struct input *in, int *fd)
{
	uint8_t which = input_u8(in), lie = input_u8(in);
	size_t file = which < 200 ? which % 4 : which % N_FILES;
	struct wire_image im = {
		.serial = input_u8(in) % 4,
		.address = ADDRESS + (UINT64_C(2) << 20) * (input_u8(in) % 4),
		.size = sizes[file],
		.board_value = input_u8(in) % 2,
		.board_slot = input_u8(in) % 4,
		.kind = input_u8(in) % 4,
	};

	*fd = files[file];
	if (lie >= 160 && lie & 1)
		im.size = input_number(in);
	if (lie >= 160 && lie & 2)
		im.address = input_number(in);
	if (lie >= 160 && lie & 4)
		im.root = input_number(in);
	if (lie >= 160 && lie & 8)
		im.board_slot = (uint32_t)input_number(in);
	if (lie >= 160 && lie & 16)
		im.kind = input_u8(in);
	return im;
}

static void put(char *message, size_t *size, const void *data, size_t n)
{
	memcpy(message + *size, data, n);
	*size += n;
}

/* The channel of a builder, in which the answer to what it will publish waits. */
static int some_channel(struct input *in)
{
	char message[sizeof(struct offer_answer) + 256] = { 0 };
	struct offer_answer a = { .error = input_u8(in) % 4 ? 0 : -(int32_t)input_u8(in), .sentence = input_u8(in) % 64 };
	size_t size = sizeof a + (input_u8(in) % 8 ? a.sentence : input_u8(in));
	int pair[2], fd;

	fd_close(channel);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	channel = pair[1];
	a.image = some_image(in, &fd);
	memcpy(message, &a, sizeof a);
	socket_send(channel, message, size, &fd, input_u8(in) % 8 ? 1 : 0, MSG_DONTWAIT);
	shutdown(channel, SHUT_WR);
	return pair[0];
}

static size_t attached(struct input *in, char *message, size_t *size, int *fds)
{
	struct wire_attached a = { .flags = input_u8(in) % 8, .n_images = input_u8(in) % 4 };
	char path[256];
	size_t n = a.n_images;

	if (a.flags & WIRE_ATTACHED_OFFER)
		a.n_images = input_u8(in) % 8 ? 0 : a.n_images;
	a.path = input_u8(in) % 4 ? 0 : input_u8(in);
	put(message, size, &a, sizeof a);
	n = a.n_images;
	for (size_t k = 0; k < n; k++) {
		struct wire_image im = some_image(in, &fds[k]);

		put(message, size, &im, sizeof im);
	}
	if (a.flags & WIRE_ATTACHED_OFFER) {
		struct wire_offer o = { .limit = input_number(in), .timeout_ms = (uint32_t)input_u8(in), .huge = input_u8(in) };

		put(message, size, &o, sizeof o);
		fds[n++] = some_channel(in);
	}
	memset(path, '/', sizeof path);
	put(message, size, path, a.path);
	return n;
}

static uint64_t last_id;
static size_t n_answers; /* of this connection */

/* The answer to the next request, well-formed but for what the input says. */
static void answer(int fd, struct input *in)
{
	/* What session() asks for, in its order. */
	static const uint8_t expected[] = { 1, 2, 3, 0, 0, 0, 4, 5 };
	static const uint16_t types[] = { WIRE_TYPE_attach, WIRE_TYPE_hello,   WIRE_TYPE_join,
					  WIRE_TYPE_define, WIRE_TYPE_release, WIRE_TYPE_adopt };
	uint8_t what = input_u8(in), lie = input_u8(in);
	size_t type = what < 200 ? expected[n_answers++ % sizeof expected] : what % 6U;
	char message[4096] = { 0 }, body[128];
	struct wire_header h = { .type = (uint16_t)(types[type] | WIRE_REPLY),
				 .id = last_id += 1 + (lie >= 200 && lie < 216 ? lie % 4U : 0U) };
	size_t size = sizeof h, n = 0;
	int fds[8], made = -1;

	memset(body, 's', sizeof body);
	if (what >= 224) {
		struct wire_error e = { .error = -(int32_t)input_u8(in), .sentence = input_u8(in) % 64 };

		h.type = WIRE_ERROR;
		put(message, &size, &e, sizeof e);
		put(message, &size, body, e.sentence);
	} else if (types[type] == WIRE_TYPE_attach) {
		n = attached(in, message, &size, fds);
		made = n && ((struct wire_attached *)(message + sizeof h))->flags & WIRE_ATTACHED_OFFER ? fds[n - 1] : -1;
	} else if (types[type] == WIRE_TYPE_hello) {
		struct wire_welcome w = { WIRE_VERSION, WIRE_MESSAGE_MAX, WIRE_BOARD_SLOTS, 1 };
		uint8_t board = input_u8(in);

		if (board >= 192)
			w.board_slots = (uint32_t)input_number(in);
		put(message, &size, &w, sizeof w);
		fds[n++] = files[board % 8 ? 7 : board / 8 % N_FILES];
	} else if (types[type] == WIRE_TYPE_join) {
		struct wire_joined j = { .members = input_u8(in) };

		memset(j.session, input_u8(in), sizeof j.session);
		put(message, &size, &j, sizeof j);
	} else if (types[type] == WIRE_TYPE_release || types[type] == WIRE_TYPE_adopt) {
		size_t file = input_u8(in) % N_FILES;
		uint32_t numbers[2] = { input_u8(in) % 2, (uint32_t)sizes[file] };

		if (types[type] == WIRE_TYPE_adopt)
			memcpy(numbers, (uint32_t[]){ (uint32_t)sizes[file], input_u8(in) % 64 }, sizeof numbers);
		if (lie % 16 == 1)
			numbers[lie / 128] = (uint32_t)input_number(in);
		put(message, &size, numbers, sizeof numbers);
		if (types[type] == WIRE_TYPE_adopt)
			put(message, &size, body, numbers[1] % sizeof body);
		fds[n++] = files[file];
	}
	h.size = (uint32_t)size;
	h.n_fds = (uint16_t)n;
	memcpy(message, &h, sizeof h);
	if (lie >= 240) {
		uint16_t at = input_u16(in), v = input_u16(in);

		memcpy(message + at % (size - 1), &v, sizeof v);
	} else if (lie >= 232) {
		size -= size < lie - 231U ? 0 : lie - 231U;
	}
	socket_send(fd, message, size, fds, lie % 32 == 3 && n ? n - 1 : n, MSG_DONTWAIT);
	if (made >= 0)
		close(made);
}

/* Takes the place of libc's: the daemon is there, and has answered already. */
int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	int pair[2], large = 1 << 20;

	(void)address;
	(void)length;
	if (n_peers == sizeof peers / sizeof *peers || !input.size) {
		errno = ECONNREFUSED;
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 || dup3(pair[0], fd, O_CLOEXEC) < 0)
		abort();
	close(pair[0]);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &large, sizeof large);
	n_answers = 0;
	for (size_t k = input_u8(&input) % ANSWERS_MAX; k > 0 && input.size; k--)
		answer(pair[1], &input);
	shutdown(pair[1], SHUT_WR);
	peers[n_peers++] = pair[1];
	return 0;
}

static void right(struct fixd *f, int r)
{
	if (r < 0 && !*fixd_error(f))
		abort();
}

static void use(struct fixd *f, struct fixd_view *v, bool writable)
{
	struct fixd_range ranges[4];
	const volatile char *data = fixd_view_data(v);
	size_t size = fixd_view_size(v);
	volatile char *root = fixd_view_root(v);

	if (size && data)
		(void)(data[0] + data[size - 1]);
	if (root && size)
		(void)*root;
	if (writable && root && size)
		*root = 'w';
	(void)fixd_view_path(v);
	(void)fixd_view_current(v);
	if (writable) {
		fixd_view_changes(v, ranges, 4);
		fixd_view_reset(v);
	}
	(void)f;
}

static void build(struct fixd *f)
{
	struct fixd_view *v = NULL;
	struct fixd_build *b = NULL;
	char *memory;
	int r = fixd_build_begin(f, "made", NULL, &v, &b);

	right(f, r);
	if (v)
		use(f, v, false);
	if (b && (memory = fixd_build_memory(b, 5000))) {
		memory[4999] = 'b';
		fixd_detach(v);
		v = NULL;
		right(f, fixd_build_commit(b, 5000, NULL, &v));
		if (v)
			use(f, v, false);
	} else if (b) {
		right(f, fixd_build_abort(b, "no"));
	}
	fixd_detach(v);
}

static void session(struct fixd *f)
{
	static const struct fixd_options writable = { .size = sizeof writable, .flags = FIXD_COW };
	struct fixd_view *v = NULL, *w = NULL;
	void *note = NULL;
	char *title = NULL;
	size_t size;

	right(f, fixd_join(f, "/tmp", "run", 0));
	right(f, fixd_define(f, "made", NULL));
	fixd_set_test(f, "a test");
	if (fixd_attach(f, "a", NULL, &v) == 0)
		use(f, v, false);
	if (fixd_attach(f, "a", &writable, &w) == 0)
		use(f, w, true);
	build(f);
	if (v)
		right(f, fixd_release(v, 0, &note, &size));
	free(note);
	note = NULL;
	if (fixd_claim_teardown(f, "*", &title, &note, &size) > 0)
		free(title);
	free(note);
	fixd_detach(v);
	fixd_detach(w);
}

static int open_descriptors(void)
{
	DIR *all = opendir("/proc/self/fd");
	int n = 0;

	while (all && readdir(all))
		n++;
	if (all)
		closedir(all);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static unsigned executions;
	struct fixd *f = NULL;
	int before;

	if (!ready)
		make_files();
	before = executions++ % 16 ? 0 : open_descriptors();
	input = (struct input){ data, size };
	last_id = 0;
	if (fixd_open(&f, "/nowhere") == 0)
		session(f);
	else if (!*fixd_error(NULL))
		abort();
	fixd_close(f);
	while (n_peers)
		close(peers[--n_peers]);
	channel = fd_close(channel);
	if (before && open_descriptors() != before) {
		fprintf(stderr, "%d descriptors were open before, %d after\n", before, open_descriptors());
		abort();
	}
	return 0;
}
