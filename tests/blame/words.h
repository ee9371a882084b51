/* SPDX-License-Identifier: MIT */
/* Objects that their plugin describes. */
#pragma once

struct place {
	int line, column;
};

struct word {
	char text[12];
	unsigned count : 4;
	struct place places[3];
	union {
		double weight;
		long rank;
	};
	struct word *next;
};

struct corpus {
	struct word *words;
	int n;
	short counts[8];
};
