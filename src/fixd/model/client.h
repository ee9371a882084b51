/* SPDX-License-Identifier: MIT */
/* A client: whoever is connected, as the model knows it. Each connection (serve/conn.h) has one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/link.h"

struct member;
struct model;
struct session;
struct user;

struct client {
	struct model *model;
	uint64_t id; /* of all clients of the daemon, later ones have greater ones */
	uid_t uid;
	pid_t pid;		 /* 0: in another pid namespace */
	bool owner;		 /* the daemon's user, or root */
	char *test;		 /* that it runs, if it says so */
	struct user *user;	 /* a reference */
	struct session *session; /* that it joined, or NULL */
	struct member *member;	 /* of a run, or NULL */
	struct link leases;	 /* lease::in_client */
	size_t n_leases;	 /* of them */
	struct link offers;	 /* offer::in_client: what it builds */
	size_t n_pending;	 /* answers that it waits for */
};
