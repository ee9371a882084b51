/* SPDX-License-Identifier: MIT */
/* What a service or a process adds to a definition: how it says that it is ready, and what its value is. */
#pragma once

struct fixture;

/*
 * Takes `ready` apart, and checks what is for such a source only. NULL, or what is wrong and what is allowed (to be freed); `keys`: of
 * which one or more, for raw_line().
 */
char *service_complete(struct fixture *f, const char **keys);
