/*
 * term.h - text for people: colour, width and units follow the terminal, plain
 * when piped or told.  What came from outside (names, messages) reaches the
 * terminal only through term_put, so that it cannot steer it.  One thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cli;

struct term {
	FILE *f;
	bool color;
	bool utf8; /* by locale: else ASCII only */
	int width; /* columns; 0 when not a terminal */
};

struct term term_of(const struct cli *c, FILE *f);
/* "red green yellow cyan dim bold off": an escape sequence, "" without colour. */
const char *term_style(const struct term *t, const char *name);
/* One of two texts, by locale. */
const char *term_glyph(const struct term *t, const char *utf8, const char *ascii);

/* Columns that term_put would use without a limit. */
int term_columns(const struct term *t, const char *text);
/* Print in at most `limit` columns (negative: no limit), an ellipsis where clipped; what is
 * not printable is replaced.  Returns the columns used. */
int term_put(const struct term *t, const char *text, int limit);
/* Bytes of text whose columns fit, up to the end of a word if there is one. */
size_t term_fit(const struct term *t, const char *text, int columns);
/* Print in words, lines after the first indented by as many columns; ends the line. */
void term_wrap(const struct term *t, const char *text, int indent);
/* The same where the first line has `used` columns already. */
void term_wrap_from(const struct term *t, const char *text, int indent, int used);
void term_pad(const struct term *t, int columns);

/* For people, into buf: "12.3 ms", "3.5 h", "12,345". */
const char *term_duration(const struct term *t, double ns, char *buf, size_t cap);
const char *term_ago(double seconds, char *buf, size_t cap);
const char *term_count(uint64_t n, char *buf, size_t cap);
/* Local time, "" for 0: all of it, or in 11 columns what tells most, the time of today or the day.
 */
const char *term_when(int64_t real_ns, bool whole, char *buf, size_t cap);
