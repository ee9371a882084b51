/* SPDX-License-Identifier: MIT */
/*
 * What a template is made of: its program, the libraries that it has loaded, and what else it says that it has read.
 *
 * Promises: a file that was replaced or written to since it was loaded is found, by its path; so that nobody gets a fork of a program
 * that was built again meanwhile.
 */
#pragma once

/* At the checkpoint, with `more` paths (NULL-terminated, or NULL). 0 or -errno. */
int loaded_note(const char *const *more);
/* The first that has changed since, or NULL. */
const char *loaded_changed(void);
