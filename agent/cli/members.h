/*
 * members.h - members of an answer's objects; what is not there, or is of
 * another kind, is empty or 0.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

static inline const char *
text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static inline int64_t
number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}
