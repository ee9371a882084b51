/* SPDX-License-Identifier: MIT */
/* What clients ask of the daemon as a whole: functions of who starts and stops it. */
#pragma once

struct config;
struct conn;
struct daemon;
struct text;
struct wire_header;

struct control {
	struct daemon *daemon;
	/* The configuration was read again: `fresh` is the daemon's now. NULL: the old one stays. Adds to the problems, and tells them all. */
	void (*reload)(struct daemon *d, struct config *fresh, struct text *problems);
	/* Drops everybody, tears everything down, and then ends the loop. */
	void (*stop)(struct daemon *d);
	/* Becomes the program as it is installed now; the client is answered by that, or told what is wrong. */
	void (*restart)(struct daemon *d, struct conn *c, const struct wire_header *h);
	/* The last connection has ended: an idle daemon may want to go. */
	void (*idle)(struct daemon *d);
};
