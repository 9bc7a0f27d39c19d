/*
 * json.h - JSON text straight into an outbuf.  The
 * caller keeps the order of commas: each member function writes one of its own
 * unless the text before it opened an object or array.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/outbuf.h"

void put_raw(struct outbuf *b, const char *text);
void put_text_n(
    struct outbuf *b, const char *s, size_t n);  /* quoted, escaped; invalid UTF-8 replaced */
void put_key(struct outbuf *b, const char *key); /* ,"key": */
void put_open(struct outbuf *b, const char *key, const char *bracket); /* ,"key":{ or [ */
void put_item(struct outbuf *b); /* ,{ the next object of an array */
void put_str(struct outbuf *b, const char *key, const char *value);
void put_u64(struct outbuf *b, const char *key, uint64_t value);
void put_i64(struct outbuf *b, const char *key, int64_t value);
void put_bool(struct outbuf *b, const char *key, bool value);
void put_f64(struct outbuf *b, double value); /* shortest that reads back; null when not finite */
void put_hex(struct outbuf *b, const char *key, uint64_t hi, uint64_t lo, bool wide);
