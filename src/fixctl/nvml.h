/* SPDX-License-Identifier: MIT */
/* Memory of NVIDIA's GPUs, where their library is (NVML, libnvidia-ml.so.1); it is looked for at run time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* False: there is no such library, or no GPU. */
bool nvml_open(void);
/* Bytes in use on all GPUs together; false: not known. */
bool nvml_used(uint64_t *bytes);
void nvml_close(void);
