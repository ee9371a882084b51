// SPDX-License-Identifier: MIT
// As leaks.c, in C++: what objects and algorithms of its library write in a fixture.
#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "suite.h"

struct matrix {
	double cells[64][64];
	double &at(int row, int column)
	{
		return cells[row][column];
	}
	matrix &operator*=(double by)
	{
		for (auto &row : cells)
			for (double &cell : row)
				cell = cell * by + 1; // writes: scales
		return *this;
	}
};

static matrix &numbers()
{
	return *static_cast<matrix *>(fixd_test("numbers"));
}

static void assigns_by_reference()
{
	numbers().at(3, 4) = 1.5; // writes
}

static void scales()
{
	numbers() *= 3;
}

static void sorts_a_range()
{
	auto *bytes = static_cast<unsigned char *>(fixd_test("bytes"));

	std::sort(bytes, bytes + 4096); // writes
}

static void fills_with_a_lambda()
{
	auto *words = static_cast<std::uint64_t *>(fixd_test("bytes"));

	std::for_each(words, words + 20, [](std::uint64_t &word) {
		word = word * 2 + 1; // writes: fills_with_a_lambda
	});
}

static void throws_on_the_way()
{
	try {
		numbers().at(9, 9) = 9; // writes
		throw std::string("out");
	} catch (const std::string &) {
	}
}

static void writes_in_a_std_thread()
{
	std::thread([] {
		numbers().at(20, 20) = -3; // writes: writes_in_a_std_thread
	}).join();
}

static void appends_to_a_string()
{
	auto *words = static_cast<std::map<std::string, std::string> *>(fixd_test("words"));

	words->begin()->second += "!"; // writes
}

static void inserts_into_a_map()
{
	auto *words = static_cast<std::map<std::string, std::string> *>(fixd_test("words"));

	(*words)["one more"] = "value"; // writes
}

/* clang-format off */
#define ROW(name) { #name, name }
/* clang-format on */
static const struct leak leaks[] = {
	ROW(assigns_by_reference), ROW(scales),
	ROW(sorts_a_range),	   ROW(fills_with_a_lambda),
	ROW(throws_on_the_way),	   ROW(writes_in_a_std_thread),
	ROW(appends_to_a_string),  ROW(inserts_into_a_map),
};

int main(int argc, char *argv[])
{
	return suite(leaks, sizeof leaks / sizeof *leaks, argc, argv);
}
