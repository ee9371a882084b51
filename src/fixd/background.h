/* SPDX-License-Identifier: MIT */
/* fixd --background: whoever starts it goes on when clients may connect, or hears why not. */
#pragma once

/*
 * Returns in a child that is in a session of its own, with /dev/null as standard input and output: the descriptor that is told when
 * clients may connect. The process that called it waits for that, and exits: with 0, or with the status of the child that ended before.
 * -errno if there is no child.
 */
int background_enter(void);
