/*
 * json.h - inside of the control room: JSON text straight into an outbuf.  The
 * caller keeps the order of commas: each member function writes one of its own
 * unless the text before it opened an object or array.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/outbuf.h"

void json_raw(struct outbuf *b, const char *text);
void json_text_n(
    struct outbuf *b, const char *s, size_t n);   /* quoted, escaped; invalid UTF-8 replaced */
void json_key(struct outbuf *b, const char *key); /* ,"key": */
void json_str(struct outbuf *b, const char *key, const char *value);
void json_u64(struct outbuf *b, const char *key, uint64_t value);
void json_i64(struct outbuf *b, const char *key, int64_t value);
void json_bool(struct outbuf *b, const char *key, bool value);
void json_f64(struct outbuf *b, double value); /* shortest that reads back; null when not finite */
void json_hex(struct outbuf *b, const char *key, uint64_t hi, uint64_t lo, bool wide);
