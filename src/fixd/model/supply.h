/* SPDX-License-Identifier: MIT */
/*
 * The supply of clones (model/pool.h): who gets which, and how many are started ahead.
 *
 * Promises: a clone is given to one holder, and then to nobody any more; nobody waits while one is ready, or fewer than `clones` are
 * there; those who wait are served in the order in which they came. One is kept ready from the first hand-out on, and more when that
 * was not enough; fewer again when nobody comes. What fails, or dies before anybody has it, is started again later and later.
 */
#pragma once

struct instance;
struct pool;

/* For the instance that is asked for. */
struct pool *supply_new(struct instance *front);
