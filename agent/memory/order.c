/*
 * order.c - see order.h.
 */
#include "agent/memory/order.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "schema/wire.h"

#define VARIABLE "CUDA_VISIBLE_DEVICES="
#define KEY      "memory.gpu."
#define KEY_UUID ".uuid"

/* "GPU-..." and "..." are the same. */
static const char *
bare(const char *id)
{
	return strncasecmp(id, "GPU-", 4) == 0 ? id + 4 : id;
}

static bool
is_number(const char *s)
{
	return *s != '\0' && strspn(s, "0123456789") == strlen(s);
}

/* Would CUDA take it? An entry that it would not, or takes for none, ends the list. */
static bool
is_entry(const char *s)
{
	return is_number(s) || strncasecmp(s, "GPU-", 4) == 0 || strncasecmp(s, "MIG-", 4) == 0;
}

void
order_visible(struct gpu_order *o, const char *value)
{
	memset(o, 0, sizeof *o);
	o->given = true;
	while (*value != '\0' && o->count < MEMORY_GPUS) {
		char *id = o->id[o->count];
		size_t n;

		value += strspn(value, " ");
		n = strcspn(value, ",");
		if (n >= ORDER_ID_BYTES)
			return;
		memcpy(id, value, n);
		id[n] = '\0';
		id[strcspn(id, " ")] = '\0';
		if (!is_entry(id)) {
			id[0] = '\0';
			return;
		}
		o->count++;
		value += n + (value[n] == ',');
	}
}

void
order_environ(struct gpu_order *o, const char *environ, size_t n)
{
	char value[MEMORY_GPUS * ORDER_ID_BYTES];

	memset(o, 0, sizeof *o);
	for (size_t at = 0, bytes; at < n; at += bytes + 1) {
		bytes = strnlen(environ + at, n - at);
		if (bytes < strlen(VARIABLE) || bytes - strlen(VARIABLE) >= sizeof value ||
		    memcmp(environ + at, VARIABLE, strlen(VARIABLE)) != 0)
			continue;
		memcpy(value, environ + at + strlen(VARIABLE), bytes - strlen(VARIABLE));
		value[bytes - strlen(VARIABLE)] = '\0';
		order_visible(o, value);
		return;
	}
}

/* "memory.gpu.3.uuid" */
static bool
uuid_key(const char *key, uint32_t n, unsigned *index)
{
	size_t head = strlen(KEY), tail = strlen(KEY_UUID);
	unsigned v = 0;

	if (n <= head + tail || n > head + tail + 2 || memcmp(key, KEY, head) != 0 ||
	    memcmp(key + n - tail, KEY_UUID, tail) != 0)
		return false;
	for (const char *p = key + head; p < key + n - tail; p++) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (unsigned)(*p - '0');
	}
	*index = v;
	return v < MEMORY_GPUS;
}

void
order_told(struct gpu_order *o, const struct span_seen *s)
{
	struct seen_tag tag;
	uint32_t at = 0;
	unsigned i;

	while (span_seen_next(s, &at, &tag)) {
		if (tag.is_number || tag.text_bytes >= ORDER_ID_BYTES ||
		    !uuid_key(tag.key, tag.key_bytes, &i))
			continue;
		memcpy(o->id[i], tag.text, tag.text_bytes);
		o->id[i][tag.text_bytes] = '\0';
		o->given = true;
		o->count = i >= o->count ? i + 1 : o->count;
	}
}

bool
order_find(const struct gpu_order *o, unsigned i, const char ids[MEMORY_GPUS][ORDER_ID_BYTES],
    unsigned *out)
{
	const char *id = i < o->count ? bare(o->id[i]) : "";

	if (!o->given || (id[0] != '\0' && is_number(o->id[i]))) {
		*out = o->given ? (unsigned)strtoul(id, NULL, 10) : i;
		return *out < MEMORY_GPUS;
	}
	for (unsigned d = 0; id[0] != '\0' && d < MEMORY_GPUS; d++)
		if (ids[d][0] != '\0' && strncasecmp(bare(ids[d]), id, strlen(id)) == 0) {
			*out = d;
			return true;
		}
	return false;
}
