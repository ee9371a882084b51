/* SPDX-License-Identifier: MIT */
/*
 * What who wants a fork and a template say to each other, over the socket in the template's directory (SOCK_SEQPACKET; its path is
 * the value of the image). A connection is one fork, and its end kills that:
 *
 *	caller -> template	struct fork_call, with descriptors: the text that it describes, the caller's directory, and what are
 *				to be 0, 1 and 2
 *	template -> caller	struct fork_answer, with the fork's pidfd, or with a sentence
 *	caller -> template	struct fork_signal, any number of them
 *	template -> caller	struct fork_event: it has stopped, goes on, or has ended, which is the last one
 *
 * Both are of one user: the text is read by who may do whatever it asks for.
 */
#pragma once

#include <stdint.h>
#include <sys/resource.h>

#define FORK_VERSION 1
#define FORK_SOCKET "fork"	/* in FIXD_DIR */
#define FORK_TEXT_MAX (8 << 20) /* more than execve(2) takes by default */
#define FORK_SENTENCE_MAX 512

enum fork_fd { FORK_FD_TEXT, FORK_FD_DIRECTORY, FORK_FD_IN, FORK_FD_OUT, FORK_FD_ERROR, FORK_FDS };

enum fork_flags {
	FORK_TERMINAL = 1 << 0, /* a session of its own, whose controlling terminal is 0 */
};

struct fork_call {
	uint32_t version;
	uint32_t flags;	 /* enum fork_flags */
	uint32_t n_args; /* the first strings of the text, each with its NUL; the others are the environment */
	uint32_t text_size;
	uint32_t umask;
	uint32_t reserved;
	uint64_t ignored; /* bit N - 1: the caller ignores signal N */
	struct {
		uint64_t soft, hard;
	} limits[RLIM_NLIMITS];
};

struct fork_answer {
	int32_t error; /* 0, or negative errno with a sentence behind this */
	uint32_t pid;  /* as the template sees it */
};

struct fork_signal {
	int32_t signal;
};

struct fork_event {
	int32_t status; /* as waitpid(2) has it */
};

/* What a template has that a fork would not have, or would have in common with it. */
enum fork_hazard {
	HAZARD_THREAD,
	HAZARD_CHILD,
	HAZARD_SOCKET,
	HAZARD_PIPE,
	HAZARD_EVENTFD,
	HAZARD_EPOLL,
	HAZARD_INOTIFY,
	HAZARD_TIMERFD,
	HAZARD_SIGNALFD,
	HAZARD_URING,
	HAZARD_FILE,
	HAZARD_LOCK,
	HAZARD_MAPPING,
	HAZARD_TIMER,
	HAZARD_COUNT,
};

/* Their names, in the same order. */
#define HAZARD_NAMES                                                                                                                   \
	{                                                                                                                              \
		"thread", "child", "socket", "pipe", "eventfd", "epoll", "inotify", "timerfd", "signalfd", "io_uring", "file", "lock", \
			"mapping", "timer"                                                                                             \
	}

enum hazard_rule { HAZARD_ERROR, HAZARD_WARN, HAZARD_ALLOW, HAZARD_RULES };
/* clang-format off */
#define HAZARD_RULE_NAMES { "error", "warn", "allow" }
/* clang-format on */

/* In the environment of a template. */
#define FORK_TEMPLATE "FIXD_TEMPLATE" /* where it is to listen */
#define FORK_AUDIT "FIXD_AUDIT"	      /* rules, "warn,socket:allow": the last one that fits counts */
