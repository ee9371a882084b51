/* SPDX-License-Identifier: MIT */
#include "wire/report.h"

#include <stddef.h>

#define REPORT_NAME(id, name) [REPORT_##id] = name,
static const char *const names[] = { REPORT_FIELDS(REPORT_NAME) };

const char *report_field_name(uint16_t field)
{
	return field < REPORT_FIELD_COUNT ? names[field] : NULL;
}
