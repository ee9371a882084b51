/* SPDX-License-Identifier: MIT */
/* What fixctl asks fixd-remote to do: a check of the server, and to send what did not get there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "base/units.h"
#include "client/connection.h"
#include "fixctl/fixctl.h"
#include "fixctl/program.h"
#include "fixctl/remote.h"
#include "fixd.h"
#include "image/memfd.h"
#include "wire/carry.h"
#include "wire/socket.h"

#define REPLY_MS 30000
#define ANSWER_MAX ((size_t)64 << 10)

struct arguments {
	char **all;
	size_t n;
};

static void tool_add(struct arguments *a, const char *s)
{
	a->all = xrealloc(a->all, (a->n + 2) * sizeof *a->all);
	a->all[a->n++] = xstrdup(s);
	a->all[a->n] = NULL;
}

static void add_number(struct arguments *a, long long n)
{
	_cleanup_free_ char *s = xasprintf("%lld", n);

	tool_add(a, s);
}

static void add_options(struct arguments *a, const json_t *remote)
{
	const json_t *options = json_object_get(remote, "options");

	for (size_t k = 0; k < json_array_size(options); k++)
		tool_add(a, json_string_value(json_array_get(options, k)));
}

/* What fixd-remote prints; to be freed. Its exit status, or 127. Takes the arguments. */
static int run_tool(struct arguments *a, char **answer)
{
	_cleanup_free_ char *path = program_path("fixd-remote");
	_cleanup_text_ struct text said = { 0 };
	char buf[4096];
	int pipes[2];
	ssize_t n;
	pid_t pid;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return 127;
	pid = program_start(path, a->all, pipes[1], NULL);
	list_free(a->all);
	close(pipes[1]);
	while (pid > 0 && said.size < ANSWER_MAX && (n = read(pipes[0], buf, sizeof buf)) != 0) {
		if (n > 0)
			text_add(&said, buf, (size_t)n);
		else if (errno != EINTR)
			break;
	}
	close(pipes[0]);
	*answer = text_steal(&said);
	return pid < 0 ? 127 : program_wait(pid);
}

static int ask_tool(const json_t *remote, const char *command, char **answer)
{
	struct arguments a = { 0 };

	tool_add(&a, "fixd-remote");
	tool_add(&a, command);
	add_options(&a, remote);
	return run_tool(&a, answer);
}

int remote_prune(const struct remote_request *q)
{
	_cleanup_free_ char *answer = NULL;
	unsigned long long manifests, pieces, bytes, kept;
	struct arguments a = { 0 };
	char size[32];
	int status;

	tool_add(&a, "fixd-remote");
	tool_add(&a, "prune");
	tool_add(&a, q->names[0]);
	add_number(&a, q->older_than_s);
	if (q->dry)
		tool_add(&a, "dry");
	status = run_tool(&a, &answer);
	if (status || sscanf(answer, "%llu %llu %llu %llu", &manifests, &pieces, &bytes, &kept) != 4)
		return EXIT_REFUSED;
	if (q->json) {
		json_t *j = json_pack("{s:b, s:I, s:I, s:I, s:I}", "dry_run", q->dry, "manifests", (json_int_t)manifests, "pieces",
				      (json_int_t)pieces, "bytes", (json_int_t)bytes, "kept", (json_int_t)kept);

		ctl_print_json(j);
		json_decref(j);
	} else {
		printf("%s %llu image(s) and %llu piece(s), %s; %llu image(s) stay\n", q->dry ? "would remove" : "removed", manifests,
		       pieces, format_size(size, sizeof size, bytes), kept);
	}
	return 0;
}

int remote_keygen(const struct remote_request *q)
{
	_cleanup_free_ char *answer = NULL;
	struct arguments a = { 0 };

	tool_add(&a, "fixd-remote");
	tool_add(&a, "keygen");
	tool_add(&a, q->names[0]);
	if (run_tool(&a, &answer))
		return EXIT_REFUSED;
	answer[strcspn(answer, "\n")] = '\0';
	if (q->json) {
		json_t *j = json_pack("{s:o, s:s}", "key_file", ctl_name(q->names[0]), "public_key", answer);

		ctl_print_json(j);
		json_decref(j);
	} else {
		puts(answer);
	}
	return 0;
}

int remote_rests(const json_t *remote, long *seconds, long *uploads)
{
	_cleanup_free_ char *answer = NULL;
	int status = ask_tool(remote, "rests", &answer);

	if (!answer || sscanf(answer, "%ld %ld", seconds, uploads) != 2)
		*seconds = *uploads = 0;
	return status ? EXIT_REFUSED : 0;
}

/* "NAME<tab>ok|wrong<tab>SENTENCE" of each line. */
static json_t *take_checks(char *answer)
{
	json_t *list = json_array();
	char *rest;

	for (char *line = strtok_r(answer, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *verdict = strchr(line, '\t'), *sentence = verdict ? strchr(verdict + 1, '\t') : NULL;

		if (!sentence)
			continue;
		*verdict++ = *sentence++ = '\0';
		json_array_append_new(list, json_pack("{s:s, s:b, s:o}", "name", line, "ok", !strcmp(verdict, "ok"), "message",
						      ctl_text(sentence, strlen(sentence))));
	}
	return list;
}

int remote_check(const json_t *remote, bool json)
{
	_cleanup_free_ char *answer = NULL;
	int status = ask_tool(remote, "check", &answer);
	json_t *checks = take_checks(answer), *all;

	if (json) {
		all = json_pack("{s:s, s:b, s:O}", "url", ctl_string(remote, "url"), "ok", status == 0, "checks", checks);
		ctl_print_json(all);
		json_decref(all);
	}
	for (size_t k = 0; !json && k < json_array_size(checks); k++) {
		const json_t *c = json_array_get(checks, k);
		bool ok = json_is_true(json_object_get(c, "ok"));

		printf("%s%s%s  %s: %s\n", ok ? GREEN : RED, ok ? "ok   " : "wrong", PLAIN, ctl_string(c, "name"),
		       ctl_string(c, "message"));
	}
	json_decref(checks);
	return status ? EXIT_REFUSED : 0;
}

/* The image that is here, its descriptor, and the path of its tree. */
struct pushed {
	struct reply key, image;
	uint64_t serial;
	char *tree;
	int head; /* what comes before the bytes of objects, or -1 */
};

/* As the builder would have made it. */
static int make_head(const struct wire_image *images, size_t n)
{
	struct carried c = { .address = images[0].address, .size = images[0].size, .root = images[0].root, .n = n - 1 };
	char head[CARRY_SIZE];

	for (size_t i = 1; i < n; i++)
		c.images[i - 1] =
			(struct carried_image){ images[i].address, images[i].size, { images[i].digest_low, images[i].digest_high } };
	carry_write(&c, head);
	return memfd_from_bytes("fixd:head", head, sizeof head);
}

static int find_image(struct fixd *f, const char *name, struct pushed *p)
{
	char body[WIRE_MESSAGE_MAX];
	struct wire_query q = { .pattern = (uint16_t)strlen(name) };
	struct wire_key key;
	struct wire_attached head;
	struct wire_image images[WIRE_FDS_MAX];
	int r;

	memcpy(body, &q, sizeof q);
	memcpy(body + sizeof q, name, strlen(name));
	r = connection_request(f, WIRE_TYPE_key, body, sizeof q + strlen(name), REPLY_MS, &p->key);
	if (r < 0)
		return r;
	r = connection_attach(f, name, NULL, 0, connection_timeout(), &p->image);
	if (r < 0)
		return r;
	memcpy(&key, p->key.body, sizeof key);
	memcpy(&head, p->image.body, sizeof head);
	if (head.n_images < 1 || head.n_images > WIRE_FDS_MAX || p->image.size < sizeof head + head.n_images * sizeof *images + head.path)
		return fixd_fail_with(f, -EPROTO, "the daemon at %s sent a malformed answer", f->path);
	memcpy(images, p->image.body + sizeof head, head.n_images * sizeof *images);
	p->serial = images[0].serial;
	p->tree = xstrndup(p->image.body + sizeof head + head.n_images * sizeof *images, head.path);
	if (images[0].kind == WIRE_IMAGE_OBJECTS && (p->head = make_head(images, head.n_images)) < 0)
		return fixd_fail_with(f, p->head, "no memory for what comes before the objects of '%s'", name);
	if (key.serial != images[0].serial)
		return fixd_fail_with(f, -EAGAIN, "'%s' became another image meanwhile; try again", name);
	return 0;
}

/* Takes what fixd-remote tells until it ends; on a terminal it is shown. */
static void follow(int told, const char *name, char **words)
{
	char packet[512], size_text[32], done_text[32];
	unsigned long long done, size = 0;
	size_t none = 0;
	ssize_t n;

	while ((n = socket_receive(told, packet, sizeof packet - 1, NULL, &none, 0)) > 0 || n == -EINTR) {
		packet[n > 0 ? n : 0] = '\0';
		if (n > 0 && sscanf(packet, "%llu %llu", &done, &size) == 2 && isatty(STDERR_FILENO)) {
			fprintf(stderr, "\r\033[Kuploading %s, %s of %s", name, format_size(done_text, sizeof done_text, done),
				format_size(size_text, sizeof size_text, size));
			fflush(stderr);
		}
	}
	if (isatty(STDERR_FILENO))
		fputs("\r\033[K", stderr);
	*words = xstrdup(format_size(size_text, sizeof size_text, size));
}

static int run_offer(const json_t *remote, const char *name, bool anew, const struct pushed *p, char **words)
{
	_cleanup_free_ char *path = program_path("fixd-builder");
	struct arguments a = { 0 };
	int told[2], keep[5];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, told) < 0)
		return 127;
	keep[0] = p->key.fds[0];
	keep[1] = p->image.fds[0];
	keep[2] = told[1];
	keep[3] = p->head;
	keep[4] = -1;
	tool_add(&a, "fixd-builder");
	tool_add(&a, "--offer");
	tool_add(&a, name);
	tool_add(&a, p->tree);
	for (size_t k = 0; k < 3; k++)
		add_number(&a, keep[k]);
	if (p->head >= 0)
		add_number(&a, p->head);
	else
		tool_add(&a, "");
	add_options(&a, remote);
	/* Who asks for it by hand does not want it to be left alone. */
	tool_add(&a, "--state=");
	if (anew)
		tool_add(&a, "--anew");
	pid = program_start(path, a.all, -1, keep);
	list_free(a.all);
	close(told[1]);
	if (pid > 0)
		follow(told[0], name, words);
	close(told[0]);
	return pid < 0 ? 127 : program_wait(pid);
}

int remote_push(struct fixd *f, const json_t *remote, const char *name, bool anew, char **words)
{
	struct pushed p = { .head = -1 };
	struct wire_detach detach = { 0 };
	int r = strlen(name) > WIRE_NAME_MAX ? fixd_fail_with(f, -EINVAL, "a name has at most %d bytes", WIRE_NAME_MAX)
					     : find_image(f, name, &p),
	    status = r == 0 ? run_offer(remote, name, anew, &p, words) : 0;

	reply_close(&p.key);
	reply_close(&p.image);
	fd_close(p.head);
	free(p.tree);
	if (p.serial) {
		detach.serial = p.serial;
		connection_tell(f, WIRE_TYPE_detach, &detach, sizeof detach);
	}
	return r < 0 ? ctl_failed(f, r) : status ? EXIT_REFUSED : 0;
}
