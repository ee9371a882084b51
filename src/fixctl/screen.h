/* SPDX-License-Identifier: MIT */
/* A report that is shown again every second, in the place of the last one. */
#pragma once

/*
 * `show` prints to stdout; what it returns ends the watch if it is not 0. Goes on until interrupted. On a terminal it is one screen:
 * what does not fit is left out, and nothing flickers. Elsewhere one report follows the other.
 */
int screen_watch(int (*show)(void *arg), void *arg);
