/*
 * picture.h - memory over time as text: curves, and below them on the same axis
 * the jobs and nodes that ran.  Everything is put into three columns: a label, the
 * time, and a figure.  Pure but for its output; the JSON is that of
 * schema/views/memory.schema.json.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/cli/term.h"

#define PICTURE_PIPED 100 /* columns when it is no terminal */
#define PICTURE_BARS  200

struct picture {
	const struct term *t;
	json_t *all;
	int64_t from_ns, to_ns;
	int label, bars, figure; /* columns of the three, with a blank between them */
	bool narrow;             /* no room for more than a figure */
};

/* Columns of the time for a terminal: how many parts are worth asking for. */
int picture_bars(const struct term *t);
void picture_draw(const struct term *t, json_t *all);
/* The peak of a death is that of the job and the node that it ended, as in the journal: samples may
 * have missed it. */
void picture_raise_peaks(json_t *all);

/* ---- what the files of the picture share --------------------------------------- */

/* Is the number known (null: not)? */
bool picture_knows(json_t *o, const char *key);
/* "9.2 GiB", in at least 32 bytes. */
const char *picture_size(int64_t bytes, char *buf);
/* The column of the time that a moment falls into, clamped. */
int picture_bar(const struct picture *p, int64_t t_ns);
/* The label and its blank. */
void picture_label(const struct picture *p, const char *style, const char *text);
/* Behind the time: the figure, in what room is left; ends the line. */
void picture_figure(const struct picture *p, const char *text);
/* A line of text behind an indentation, clipped to the width. */
void picture_line(const struct picture *p, const char *style, int indent, const char *text);

/* ---- picture_curve.c --------------------------------------------------------------- */

/* The highest of a column of points in each part of the time, -1: nothing is known of it. After the
 * newest it stays so until then. */
struct curve {
	int64_t v[PICTURE_BARS], high, last;
};
struct curve curve_of(const struct picture *p, json_t *points, size_t column, int64_t until_ns);
/* One line of blocks against `full`. */
void curve_line(const struct picture *p, const struct curve *c, int64_t full);
/* Several lines with a scale, the limit as a line of its own where it fits; 0: none. */
void curve_chart(const struct picture *p, const struct curve *c, int64_t limit);

/* ---- picture_jobs.c ----------------------------------------------------------------- */

/* The jobs of a process with their nodes, what they left held, and where that goes. */
void picture_jobs(const struct picture *p, json_t *process);
