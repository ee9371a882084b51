/* SPDX-License-Identifier: MIT */
/*
 * Images of other machines: what a job is to build is looked for on its remote before, and offered there after it was built here.
 * fixd-remote does both.
 *
 * Promises: what is taken is what was signed for these inputs; whatever goes wrong with the remote is a line in the log, and the image
 * is built here; an offer begins when the daemon has found the image right (its inputs have not changed, and so its key is that of what is in
 * it), goes on by itself when this process has ended, and ends by itself.
 */
#pragma once

struct work;

/*
 * 1: it was there, and is in the space, or what `take` makes of the stream (a tree). 0: it was not, and the space is as it was. Otherwise
 * what work_fail() returned.
 */
int remote_take(struct work *w);
/* Before the result is told: the sealed image, or the tree, is offered when the job says so and the daemon allows it. */
void remote_offer(struct work *w);
/*
 * By hand: NAME, TREE ("": it is none), the descriptors of the parts of its key, of the image, of who is told and of what comes before it ("": nothing does),
 * and options of fixd-remote.
 */
_Noreturn void remote_offer_by_hand(char **args);
