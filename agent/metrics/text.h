/*
 * text.h - inside of the metrics room: the texts of tags made legal for who reads
 * them.  Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define TAG_VALUE_MAX 100u /* bytes; more are cut off at a character */

/*
 * For DogStatsD: what separates there (| , # blanks, line ends and other control
 * characters; in a key : too) becomes _, what is no UTF-8 U+FFFD.  Terminated;
 * returns the length, 0 when nothing is left.
 */
size_t text_statsd(char out[TAG_VALUE_MAX + 1], const char *s, size_t n, bool key);
/* A label's value between its quotes: \, " and line ends escaped. */
#define LABEL_VALUE_MAX (2 * TAG_VALUE_MAX)
size_t text_label(char out[LABEL_VALUE_MAX + 1], const char *s, size_t n);
