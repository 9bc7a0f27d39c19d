/*
 * tables.h - events.def as C: ids and field descriptors.  Read-only data, any
 * thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum event_id {
#define EVENT(name, id, tail, text) EVENT_##name = (id),
#define FIELD(event, name, kind, offset, text)
#define END(name, fixed)
#include "schema/events.def"
#undef EVENT
#undef FIELD
#undef END
};

enum field_kind { KIND_U8, KIND_U16, KIND_U32, KIND_U64, KIND_I8, KIND_I64, KIND_STR };
enum event_tail { TAIL_NONE, TAIL_TAGS };

struct field_desc {
	const char *name, *text;
	enum field_kind kind;
	uint32_t offset;
};

struct event_desc {
	const char *name, *text;
	enum event_id id;
	enum event_tail tail;
	uint32_t fixed_bytes;
	const struct field_desc *fields;
	size_t field_count;
};

/* All events, in the order of the table. */
extern const struct event_desc event_table[];
extern const size_t event_count;

/* NULL for an id that this build does not know. */
const struct event_desc *event_find(uint16_t id);
/* Width in bytes, and the word used in the reference page. */
uint32_t field_width(enum field_kind kind);
const char *field_kind_name(enum field_kind kind);
