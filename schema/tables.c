/*
 * tables.c - the descriptors expanded from events.def.
 */
#include "schema/tables.h"

#define EVENT(name, id, tail, text)            static const struct field_desc fields_##name[] = {
#define FIELD(event, name, kind, offset, text) { #name, text, KIND_##kind, offset },
#define END(name, fixed)                   \
	{                                  \
		NULL, NULL, KIND_U8, fixed \
	}                                  \
	}                                  \
	;
#include "schema/events.def"
#undef EVENT
#undef FIELD
#undef END

/* The last entry of each field array carries the size of the fixed part. */
#define COUNT(name) (sizeof fields_##name / sizeof fields_##name[0] - 1)

enum {
#define EVENT(name, id, tail, text)
#define FIELD(event, name, kind, offset, text)
#define END(name, fixed) FIXED_##name = (fixed),
#include "schema/events.def"
#undef EVENT
#undef FIELD
#undef END
};

const struct event_desc event_table[] = {
#define EVENT(name, id, tail, text) \
	{ #name, text, EVENT_##name, TAIL_##tail, FIXED_##name, fields_##name, COUNT(name) },
#define FIELD(event, name, kind, offset, text)
#define END(name, fixed)
#include "schema/events.def"
#undef EVENT
#undef FIELD
#undef END
};
const size_t event_count = sizeof event_table / sizeof event_table[0];

const struct event_desc *
event_find(uint16_t id)
{
	for (size_t i = 0; i < event_count; i++)
		if ((uint16_t)event_table[i].id == id)
			return &event_table[i];
	return NULL;
}

static const struct {
	const char *name;
	uint32_t width;
} kinds[] = {
	[KIND_U8] = { "u8", 1 },
	[KIND_U16] = { "u16", 2 },
	[KIND_U32] = { "u32", 4 },
	[KIND_U64] = { "u64", 8 },
	[KIND_I8] = { "i8", 1 },
	[KIND_I64] = { "i64", 8 },
	[KIND_STR] = { "string id", 4 },
};

uint32_t
field_width(enum field_kind kind)
{
	return kinds[kind].width;
}

const char *
field_kind_name(enum field_kind kind)
{
	return kinds[kind].name;
}
