/* SPDX-License-Identifier: MIT */
/* Tests that change objects: the report and fixd_view_object() name what is changed. */
#include "words.h"

#include "suite.h"

static const char *fixture;
struct corpus *variable;

static struct corpus *corpus(void)
{
	return fixd_test(fixture);
}

static void print(const void *address)
{
	char text[256];
	long n = (long)fixd_view_object(fixd_test_view(fixture), address, text, sizeof text);

	printf("object: %s\n", n > 0 ? text : n == 0 ? "unknown" : fixd_error(fixd_test_all()->daemon));
}

static void changes(void)
{
	struct fixd_range r[16];
	int64_t n;

	corpus()->counts[5] = 7;
	corpus()->words[17].places[2].column = 1;
	corpus()->words[18].text[3] = 'x';
	corpus()->words[99].rank = 3;
	n = fixd_view_changes(fixd_test_view(fixture), r, 16);
	for (int i = 0; i < n && i < 16; i++)
		print(r[i].start);
}

/* Over the border of a page, the later one first, one that is put back, and two calls with a reset between them. */
static void ranges(void)
{
	char *bytes = (char *)corpus();
	struct fixd_range r[16];

	for (int i = 0; i < 2; i++) {
		int64_t n;

		memset(bytes + 12000, i + 1, 2000);
		memset(bytes + 4090, i + 1, 10);
		bytes[20000] ^= 1;
		bytes[20000] ^= 1;
		bytes[9000] = 1;
		n = fixd_view_changes(fixd_test_view(fixture), r, 16);
		for (int k = 0; k < n && k < 16; k++)
			printf("object: %d: %ld bytes at %ld\n", i, (long)r[k].length, (long)((char *)r[k].start - bytes));
		fixd_test_reset();
	}
}

static void asks(void)
{
	struct corpus *c = corpus();
	char few[8];

	print(c);
	print(c->words);
	print(&c->words[3].next);
	print((char *)&c->words[3].weight + 2);
	print((char *)&c->words[2] + 12);
	print((char *)c + 2000);
	print("elsewhere");
	printf("%ld %s\n", (long)fixd_view_object(fixd_test_view(fixture), &c->words[3].next, few, sizeof few), few);
}

/* Arguments: the fixture, the test, and with a third one a variable that points to it. */
int main(int argc, char *argv[])
{
	static const struct leak leaks[] = { { "changes", changes }, { "asks", asks }, { "ranges", ranges } };

	fixture = argv[1];
	variable = argc > 3 ? corpus() : NULL;
	return suite(leaks, sizeof leaks / sizeof *leaks, 2, argv + 1);
}
