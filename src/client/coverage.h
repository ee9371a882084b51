/* SPDX-License-Identifier: MIT */
/*
 * Coverage counters of a fork that does not run the exit handlers it has inherited: those of gcov and of clang's profiles are written by
 * functions of their run-time libraries, which every program and library that was compiled for it has in it, under hidden names.
 */
#pragma once

/* In the template: finds them in the symbol tables of what is loaded. */
void coverage_find(void);
/* In a fork, at its end. */
void coverage_write(void);
