/* SPDX-License-Identifier: MIT */
/* What a source tree has that concerns fixtures: how its tests are started, and its directories of data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct project_suite {
	const char *name;
	const char *command; /* that starts the tests, in a build directory if need be */
};

struct project_data {
	char *path; /* below the project */
	char *name; /* as of a fixture */
	uint64_t bytes, files;
};

struct project {
	const struct project_suite *suites[12];
	size_t n_suites;
	struct project_data *data;
	size_t n_data;
};

/* 0, or -errno: the directory cannot be read. Links are not followed, nor are hidden directories, and those of builds, looked into. */
int project_find(struct project *p, const char *directory);
void project_deinit(struct project *p);
