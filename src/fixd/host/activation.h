/* SPDX-License-Identifier: MIT */
/*
 * The descriptors that a service manager has passed at the start, sd_listen_fds_with_names(3): its sockets, and what was stored with
 * it. Each is taken once, and is the caller's then.
 */
#pragma once

/* The names of what fixd stores: its state, and its descriptors, with the number that each had. */
#define STORED_STATE "fixd-state"
#define STORED_FD "fixd-fd-"

/* The one of that name; -1: there is none, or it was taken. */
int activation_take(const char *name);
/* One that fixd has not stored; or -1. */
int activation_take_socket(void);
/* Calls `fn` with each name that begins so; what was not taken of those is closed. */
void activation_forget(const char *prefix, void (*fn)(const char *name));
