/* SPDX-License-Identifier: MIT */
/*
 * The stack of Python, where this process has an interpreter: lines as faulthandler writes them, `  File "F", line N in f`, the innermost
 * function first. In a handler of a fault, for its own thread, which stands still at an instruction of some C function.
 */
#pragma once

#include <stddef.h>

/* Looks the interpreter up, which must not be done in a handler. */
void python_prepare(void);
/* As much of it as there is room for; empty in a thread that the interpreter does not know. */
void python_stack(char *text, size_t size);
