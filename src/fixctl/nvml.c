/* SPDX-License-Identifier: MIT */
#include "fixctl/nvml.h"

#include <dlfcn.h>
#include <stddef.h>

/* What is used of nvml.h: nvmlMemory_t and the functions of the NVML API Reference Manual, 0 is NVML_SUCCESS. */
struct nvml_memory {
	unsigned long long total, free, used;
};

static struct {
	void *library;
	int (*shutdown)(void);
	int (*count)(unsigned *n);
	int (*handle)(unsigned index, void **device);
	int (*memory)(void *device, struct nvml_memory *m);
} nvml;

bool nvml_open(void)
{
	int (*init)(void);
	unsigned n = 0;

	nvml.library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!nvml.library)
		return false;
	*(void **)&init = dlsym(nvml.library, "nvmlInit_v2");
	*(void **)&nvml.shutdown = dlsym(nvml.library, "nvmlShutdown");
	*(void **)&nvml.count = dlsym(nvml.library, "nvmlDeviceGetCount_v2");
	*(void **)&nvml.handle = dlsym(nvml.library, "nvmlDeviceGetHandleByIndex_v2");
	*(void **)&nvml.memory = dlsym(nvml.library, "nvmlDeviceGetMemoryInfo");
	if (init && nvml.shutdown && nvml.count && nvml.handle && nvml.memory && init() == 0) {
		if (nvml.count(&n) == 0 && n > 0)
			return true;
		nvml.shutdown();
	}
	dlclose(nvml.library);
	nvml.library = NULL;
	return false;
}

bool nvml_used(uint64_t *bytes)
{
	unsigned n = 0;

	*bytes = 0;
	if (!nvml.library || nvml.count(&n) != 0)
		return false;
	for (unsigned k = 0; k < n; k++) {
		struct nvml_memory m = { 0 };
		void *device = NULL;

		if (nvml.handle(k, &device) != 0 || nvml.memory(device, &m) != 0)
			return false;
		*bytes += m.used;
	}
	return true;
}

void nvml_close(void)
{
	if (!nvml.library)
		return;
	nvml.shutdown();
	dlclose(nvml.library);
	nvml.library = NULL;
}
