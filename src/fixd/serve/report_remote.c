/* SPDX-License-Identifier: MIT */
#include "fixd/serve/report_remote.h"

#include "base/clock.h"
#include "config/config.h"
#include "config/remote.h"
#include "fixd/serve/server.h"
#include "wire/record.h"
#include "wire/report.h"

static void put_list(struct text *out, uint16_t field, char *const *list)
{
	size_t mark = record_begin(out, field, RECORD_LIST);

	for (size_t k = 0; list && list[k]; k++)
		record_string(out, field, list[k]);
	record_end(out, mark);
}

static void put_transfer(struct text *out, const struct transfer *t)
{
	size_t mark = record_begin(out, REPORT_TRANSFERS, RECORD_OBJECT);

	record_string(out, REPORT_NAME, t->title);
	record_bool(out, REPORT_UP, t->up);
	record_u64(out, REPORT_DONE, t->done);
	record_u64(out, REPORT_SIZE, t->size);
	record_time(out, REPORT_TOOK, clock_now() - t->started);
	record_end(out, mark);
}

static void put_transfers(struct text *out, const struct work *w)
{
	size_t mark = record_begin(out, REPORT_TRANSFERS, RECORD_LIST);

	link_for_each(l, &w->transfers) {
		const struct transfer *t = link_entry(l, struct transfer, link);

		/* What is only looked for is none yet; what is to be offered is. */
		if (t->begun || t->up)
			put_transfer(out, t);
	}
	record_end(out, mark);
}

void report_remote(const struct server *server, struct text *out)
{
	const struct config *c = server->model->config;
	const struct transfer_figures *f = &server->work->transferred;
	size_t mark;

	if (!c->remote_options) {
		record_null(out, REPORT_REMOTE);
		return;
	}
	mark = record_begin(out, REPORT_REMOTE, RECORD_OBJECT);
	record_string(out, REPORT_URL, c->remote_url);
	record_string(out, REPORT_NAMESPACE, remote_namespace(c));
	put_list(out, REPORT_READS, c->remote_reads);
	record_bool(out, REPORT_WRITES, c->remote_write);
	put_list(out, REPORT_OPTIONS, c->remote_options);
	record_u64(out, REPORT_DOWNLOADS, f->downloads);
	record_u64(out, REPORT_DOWNLOADED, f->downloaded_bytes);
	record_u64(out, REPORT_UPLOADS, f->uploads);
	record_u64(out, REPORT_UPLOADED, f->uploaded_bytes);
	record_u64(out, REPORT_FAILURES, f->failures);
	put_transfers(out, server->work);
	record_end(out, mark);
}
