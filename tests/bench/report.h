/*
 * report.h - how a program of this folder says a figure: one line of JSON on
 * standard output, as README.md describes.  Any thread, one at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum report_rule {
	REPORT_NONE,        /* shown, not judged */
	REPORT_AT_MOST,     /* value <= limit */
	REPORT_AT_LEAST,    /* value >= limit */
	REPORT_RATIO_MOST,  /* value / baseline <= limit */
	REPORT_RATIO_LEAST, /* value / baseline >= limit */
};

/* baseline NULL: there is none. */
static inline void
report(const char *name, double value, const char *unit, const char *baseline, double base,
    enum report_rule rule, double limit)
{
	double ratio = base != 0 ? value / base : 0;
	bool met = rule == REPORT_AT_MOST       ? value <= limit
		   : rule == REPORT_AT_LEAST    ? value >= limit
		   : rule == REPORT_RATIO_MOST  ? ratio <= limit
		   : rule == REPORT_RATIO_LEAST ? ratio >= limit
						: true;

	printf("{\"name\":\"%s\",\"value\":%.6g,\"unit\":\"%s\",", name, value, unit);
	if (baseline != NULL)
		printf("\"baseline\":\"%s\",\"baseline_value\":%.6g,\"ratio\":%.3g,", baseline,
		    base, ratio);
	else
		printf("\"baseline\":null,\"baseline_value\":null,\"ratio\":null,");
	if (rule == REPORT_NONE)
		printf("\"goal\":null,\"met\":null}\n");
	else
		printf("\"goal\":\"%s %g%s\",\"met\":%s}\n",
		    rule == REPORT_AT_MOST || rule == REPORT_RATIO_MOST ? "<=" : ">=", limit,
		    rule >= REPORT_RATIO_MOST ? " x baseline" : "", met ? "true" : "false");
	fflush(stdout);
}
