/* SPDX-License-Identifier: MIT */
/* Free TCP ports for services: below those that the kernel gives to outgoing connections, and no two services have the same. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* 0: none is free. */
uint16_t port_take(void);
void port_give_back(uint16_t port);
/* Somebody has it already. */
void port_keep(uint16_t port);
/* Could somebody listen there now? */
bool port_is_free(uint16_t port);
