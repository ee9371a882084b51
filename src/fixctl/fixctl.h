/* SPDX-License-Identifier: MIT */
/* fixctl: the operator's tool. One file a command; main.c has the table. Exit codes are those of fixctl(1). */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"

enum fixctl_exit {
	EXIT_REFUSED = 1, /* the daemon refused, or found nothing */
	EXIT_USAGE = 2,
	EXIT_NO_DAEMON = 3,
	EXIT_BUILD_FAILED = 4,
	EXIT_TIMED_OUT = 5,
	EXIT_BAD_CONFIG = 78, /* of a daemon that was to be started */
};

struct fixctl {
	const char *socket;  /* NULL: where libfixd looks */
	const char *session; /* root of the session to look at, or NULL */
	bool json;
};

struct fixctl_command {
	const char *name;
	int (*run)(struct fixctl *ctl, int argc, char **argv);
	const char *summary; /* one line */
	const char *help;    /* usage and options */
	bool json;	     /* it reports something that has a JSON form */
};

extern const struct fixctl_command command_status, command_list, command_warm, command_get, command_cleanup, command_log, command_trace,
	command_report, command_bench, command_graph, command_run, command_with, command_fork, command_reload, command_restart,
	command_stop, command_doctor;
extern const struct fixctl_command command_init, command_ps, command_explain, command_remote;

struct fixd;

/* Connects, or prints why not and exits with ctl_open_failed(). */
struct fixd *ctl_open(const struct fixctl *ctl);
/* The same; and what reports then say, if not as JSON, would control no terminal, whoever has written it. */
struct fixd *ctl_open_to_show(const struct fixctl *ctl);
/* The exit status for an error of fixd_open(). */
int ctl_open_failed(int err);

/* Prints the sentence of the last failure; returns the exit code for `err`. */
int ctl_failed(const struct fixd *f, int err);

/* In lines that fit into the terminal. */
void ctl_print_help(const struct fixctl_command *c);

/* One line about a misuse and where to read on; exits. */
_Noreturn void ctl_misuse(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Behind the options there are `least` to `most` arguments; otherwise it is a misuse. `missing` says what is not there. */
void ctl_expect(const char *command, int argc, char **argv, int least, int most, const char *missing);
/* For the '?' of getopt_long(). */
_Noreturn void ctl_bad_option(const char *command);

/* Sends a request with a pattern and gives the daemon's report, as it is or as JSON. 0, or an exit code (printed). */
int ctl_report_text(struct fixd *f, uint16_t type, const void *body, size_t size, char **out, size_t *out_size);
int ctl_report(struct fixd *f, uint16_t type, const void *body, size_t size, json_t **out);
int ctl_query(struct fixd *f, uint16_t type, const char *pattern, json_t **out);

/*
 * The events from *from on (0: the oldest), waiting so long for the first; *from is moved on. Gives the report: events, more, lost.
 * 0, or an exit code (printed).
 */
int ctl_events(struct fixd *f, uint64_t *from, unsigned wait_ms, json_t **out);

/* EXIT_REFUSED, with a line about it, if no fixture has a name that matches; otherwise 0. */
int ctl_known(const struct fixctl *ctl, const char *pattern);
/* The line about it, with what was meant. EXIT_REFUSED. */
int ctl_unknown(struct fixd *f, const char *pattern);

void ctl_print_json(const json_t *j);
/* Bytes as a string: what is no UTF-8 in them becomes a replacement character for each. */
json_t *ctl_text(const char *data, size_t size);
json_t *ctl_name(const char *s); /* or a path */

/* Members of an object, with a default for null. */
const char *ctl_string(const json_t *object, const char *key);
int64_t ctl_int(const json_t *object, const char *key);
double ctl_real(const json_t *object, const char *key);

/* Colours on a terminal, unless NO_COLOR is set; "" otherwise. */
const char *ctl_color(const char *code);
#define BOLD ctl_color("\033[1m")
#define RED ctl_color("\033[31m")
#define GREEN ctl_color("\033[32m")
#define YELLOW ctl_color("\033[33m")
#define PLAIN ctl_color("\033[0m")

/* "12 s", "1 h 30 min": without fractions. Returns `buf`. */
char *ctl_span(char *buf, size_t n, double seconds);
/* "2026-01-15 10:30:00" of seconds since 1970. Returns `buf`. */
char *ctl_time(char *buf, size_t n, double seconds);
