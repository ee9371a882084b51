/* SPDX-License-Identifier: MIT */
/* What a process of a run does before anything else happens: it finds the table of the run, and everything begins. */
#include "preload/shim.h"

#include <stdlib.h>
#include <string.h>

#include "free/free.h"
#include "preload/starts.h"

/* Its libraries are preloaded, too. */
static bool is_under_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "/vgpreload_");
}

__attribute__((constructor(101))) static void begin(void)
{
	const char *variable = getenv(RUN_TABLE_VARIABLE);
	int saved = errno;

	run = variable ? table_find(variable) : NULL;
	if (run) {
		starts_by_bytes = is_under_valgrind();
		fd_first_of_ours = run->fd < run->lock_fd ? run->fd : run->lock_fd;
		for (uint32_t i = 0; i < run->n_entries; i++) {
			if (run_entries()[i].kind == RUN_FILE && run_entries()[i].fd < fd_first_of_ours)
				fd_first_of_ours = run_entries()[i].fd;
		}
		path_table_begin();
		lock_begin();
		environment_begin();
		fixd_free_covers(run->region_start, run->region_size);
		fault_path = resolve_visible;
		links_seek();
		nss_begin();
	}
	errno = saved;
}
