/* SPDX-License-Identifier: MIT */
/* What everything stands on: text, globs, links, units, clocks, processes, descriptors. */
#include <errno.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/glob.h"
#include "base/link.h"
#include "base/process.h"
#include "base/text.h"
#include "base/tree.h"
#include "base/units.h"
#include "tap.h"

static void numbers(void)
{
	uint64_t v;

	check_int(parse_u64("0", 10, 10, &v), 0);
	check_int(parse_u64("10", 10, 10, &v), 0);
	check_int(v, 10);
	check_int(parse_u64("11", 10, 10, &v), -ERANGE);
	check_int(parse_u64("99999999999999999999999", 10, UINT64_MAX, &v), -ERANGE);
	check_int(parse_u64("0x10", 0, 100, &v), 0);
	check_int(v, 16);
	static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "1x", "x", "0x" };

	for (size_t i = 0; i < ELEMENTSOF(bad); i++)
		check_int(parse_u64(bad[i], 10, 100, &v), -EINVAL);
}

static void sizes_and_durations(void)
{
	uint64_t size;
	int64_t ns;
	char buf[32];

	check_int(parse_size("64K", &size), 0);
	check_int(size, 65536);
	check_int(parse_size("2g", &size), 0);
	check_int(size, INT64_C(2) << 30);
	check_int(parse_size("7", &size), 0);
	check_int(size, 7);
	check_int(parse_size("8589934592G", &size), -ERANGE);
	check_int(parse_size("1.5G", &size), -EINVAL);
	check_int(parse_size("G", &size), -EINVAL);
	check_int(parse_duration("250ms", &ns), 0);
	check_int(ns, 250 * NSEC_PER_MSEC);
	check_int(parse_duration("10", &ns), 0);
	check_int(ns, 10 * NSEC_PER_SEC);
	check_int(parse_duration("2 h", &ns), 0);
	check_int(ns, 7200 * NSEC_PER_SEC);
	check_int(parse_duration("1d", &ns), -EINVAL);
	check_int(parse_duration("9999999999h", &ns), -ERANGE);
	check_string(format_size(buf, sizeof buf, 1000), "1000 B");
	check_string(format_size(buf, sizeof buf, 64 << 20), "64.0 MiB");
	check_string(format_duration(buf, sizeof buf, 1500), "1.5 us");
	check_string(format_duration(buf, sizeof buf, 59 * NSEC_PER_SEC), "59.00 s");
	check_string(format_duration(buf, sizeof buf, 90 * NSEC_PER_SEC), "1 min 30 s");
	check_string(format_duration(buf, sizeof buf, 600 * NSEC_PER_SEC), "10 min");
	check_string(format_duration(buf, sizeof buf, 5430 * NSEC_PER_SEC), "1 h 30 min");
	check_string(format_duration(buf, sizeof buf, 3600 * NSEC_PER_SEC), "1 h");
	check_string(format_duration(buf, sizeof buf, 180000 * NSEC_PER_SEC), "2 d 2 h");
	check_string(write_duration(buf, sizeof buf, 600 * NSEC_PER_SEC), "10m");
	check_string(write_duration(buf, sizeof buf, 90 * NSEC_PER_SEC), "90s");
	check_string(write_duration(buf, sizeof buf, 300 * NSEC_PER_SEC), "300s");
	check_string(write_duration(buf, sizeof buf, 7200 * NSEC_PER_SEC), "2h");
	check_string(write_duration(buf, sizeof buf, 0), "0ms");
	check_string(write_size(buf, sizeof buf, 3 << 20), "3M");
	check_string(write_size(buf, sizeof buf, 1000), "1000");
	check_string(format_age(buf, sizeof buf, 0), "0 seconds");
	check_string(format_age(buf, sizeof buf, 61 * NSEC_PER_SEC), "1 minute");
	check_string(format_age(buf, sizeof buf, 900 * NSEC_PER_SEC), "15 minutes");
}

static void texts_and_lists(void)
{
	struct text t = { 0 };
	char **list = list_split(" a, b c,,\n d \n");
	_cleanup_free_ char *stolen = NULL;

	check_int(list_count(list), 3);
	check_string(list[1], "b c");
	check(list_has(list, "d") && !list_has(list, "e"));
	list_free(list);
	for (int i = 0; i < 1000; i++)
		text_printf(&t, "%d,", i);
	check_int(t.size, 10 * 2 + 90 * 3 + 900 * 4);
	stolen = text_steal(&t);
	check(t.data == NULL && !strncmp(stolen, "0,1,2,", 6));
}

static void links(void)
{
	struct link head = LINK_INIT(head), a, b;

	link_init(&a);
	link_init(&b);
	check(link_empty(&head));
	link_insert(&head, &a);
	link_insert(&head, &b);
	check(head.next == &a && head.prev == &b);
	link_for_each_safe(l, &head)
		link_remove(l);
	check(link_empty(&head) && link_empty(&a));
}

static void trees_are_removed(void)
{
	char dir[] = "/tmp/fixd-unit-XXXXXX", path[64], outside[] = "/tmp/fixd-unit-XXXXXX";

	check(mkdtemp(dir) && mkdtemp(outside));
	snprintf(path, sizeof path, "%s/a/b/c", dir);
	check_int(dir_make_all(path, 0755), 0);
	snprintf(path, sizeof path, "%s/a/link", dir);
	check_int(symlink(outside, path), 0);
	snprintf(path, sizeof path, "%s/a/b", dir);
	check_int(chmod(path, 0500), 0);
	check_int(tree_remove(dir), 0);
	check(access(dir, F_OK) < 0);
	check_int(rmdir(outside), 0);
	check_int(tree_remove(dir), 0);
}

static void process_ids_follow_a_fork(void)
{
	pid_t child;
	int status;

	check_int(process_id(), getpid());
	check_int(process_id(), getpid());
	child = fork();
	if (child == 0)
		_exit(process_id() == getpid() && process_id() != getppid() ? 0 : 1);
	check(waitpid(child, &status, 0) == child && status == 0);
	check_int(process_id(), getpid());
}

static void whole_files(void)
{
	char path[] = "/tmp/fixd-unit-XXXXXX", *data, big[10000];
	int fd = mkstemp(path);
	size_t size;

	memset(big, 'x', sizeof big);
	check_int(fd_write_all(fd, big, sizeof big), 0);
	check_int(file_read_all(path, sizeof big, &data, &size), 0);
	check_int(size, sizeof big);
	free(data);
	check_int(file_read_all(path, sizeof big - 1, &data, &size), -EFBIG);
	check_int(fd_pread_all(fd, big, sizeof big, 9990), 10);
	unlink(path);
	check_int(file_read_all(path, 10, &data, &size), -ENOENT);
	fd_close(fd);
}

static void globs(void)
{
	static const char *const patterns[] = { "",	  "*",	   "a",	     "a*",	"*a",  "?",    "a?c",  "*.c",
						"[a-c]*", "[!a]*", "[]a]",   "[a",	"\\*", "\\",   "a**b", "[[:digit:]]?",
						"*a*b*c", "b[1]",  "x[[]1]", "[a\\]b]", ".*",  "[.]*", "\\.x", "***" };
	static const char *const texts[] = { "",    "a",  "b",	"abc", "a.c",  "]",  "*",      "\\", "[a",
					     "aab", "1x", "ab", "b1",  "x[1]", ".x", "xaybzc", ".",  "a]" };
	char many[200] = { 0 };

	for (size_t k = 0; k < ELEMENTSOF(patterns); k++) {
		for (size_t n = 0; n < ELEMENTSOF(texts); n++) {
			if (glob_match(patterns[k], texts[n]) != !fnmatch(patterns[k], texts[n], 0))
				printf("# %s, %s\n", patterns[k], texts[n]);
			check(glob_match(patterns[k], texts[n]) == !fnmatch(patterns[k], texts[n], 0));
			check(glob_match_file(patterns[k], texts[n]) == !fnmatch(patterns[k], texts[n], FNM_PERIOD));
		}
	}
	/* It would take fnmatch() longer than the world is old. */
	memset(many, 'a', sizeof many - 1);
	check(!glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", many));
}

static const struct tap_test tests[] = {
	TAP_TEST(numbers),	     TAP_TEST(sizes_and_durations),	  TAP_TEST(texts_and_lists), TAP_TEST(links),
	TAP_TEST(trees_are_removed), TAP_TEST(process_ids_follow_a_fork), TAP_TEST(whole_files),     TAP_TEST(globs),
};
TAP_MAIN(tests)
