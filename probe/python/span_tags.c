/* span_tags.c - the tags of a span, encoded as they come.  See span.h */
#include "probe/python/span.h"

#include "probe/core/probe.h"
#include "probe/python/strings.h"

#define SPECIALS 8

/* Keys that mean something else than a tag. */
enum special { SERVICE, RESOURCE, TYPE, KEEP, DROP, MEASURED, STATUS, PORT };

static const char *const special_names[SPECIALS] = { "service.name", "resource.name", "span.type",
	"manual.keep", "manual.drop", "_dd.measured", "http.status_code",
	"network.destination.port" };
static uint32_t special_ids[SPECIALS];
static uint32_t special_last; /* the highest of them: interned first, they are all low */

/* A buffer of at least `need` bytes, doubled from the old one; false at the limit. */
static bool
grow(struct span *s, size_t need)
{
	struct wire_tags *t = &s->tags;
	size_t cap = t->cap;
	if (need > SPAN_TAGS_MAX)
		return false;
	while (cap < need)
		cap *= 2;
	uint8_t *buf = PyMem_RawMalloc(cap);
	if (buf == NULL)
		return false;
	memcpy(buf, t->buf, t->used);
	if (t->buf != s->small)
		PyMem_RawFree(t->buf);
	t->buf = buf;
	t->cap = (uint32_t)cap;
	return true;
}

/* Room for `need` more bytes; false (counted) at the limit. */
static bool
make_room(struct span *s, size_t need)
{
	if (s->tags.used + need <= s->tags.cap || grow(s, s->tags.used + need))
		return true;
	s->tags.refused++;
	return false;
}

static size_t
tag_bytes(const uint8_t *p)
{
	switch (wire_get32(p) >> WIRE_TAG_KIND_SHIFT) {
	case WIRE_TAG_TEXT:
		return 8 + WIRE_ALIGN8(wire_get32(p + 4));
	case WIRE_TAG_F64:
		return 16;
	default:
		return 8;
	}
}

/* A key is there once: take the old value out, the new one is appended. */
static void
forget(struct wire_tags *t, uint32_t key)
{
	for (uint32_t at = 0; at < t->used;) {
		size_t n = tag_bytes(t->buf + at);
		if ((wire_get32(t->buf + at) & WIRE_TAG_KEY_MASK) == key) {
			memmove(t->buf + at, t->buf + at + n, t->used - at - n);
			t->used -= (uint32_t)n;
			t->count--;
			return;
		}
		at += (uint32_t)n;
	}
}

uint32_t
span_tag_value(const struct span *s, uint32_t key)
{
	const struct wire_tags *t = &s->tags;
	for (uint32_t at = 0; at < t->used; at += (uint32_t)tag_bytes(t->buf + at)) {
		uint32_t word = wire_get32(t->buf + at);
		if ((word & WIRE_TAG_KEY_MASK) == key &&
		    word >> WIRE_TAG_KIND_SHIFT == WIRE_TAG_STR)
			return wire_get32(t->buf + at + 4);
	}
	return 0;
}

void
span_tag_id(struct span *s, uint32_t key, uint32_t value)
{
	if (key == 0 || value == 0)
		return;
	forget(&s->tags, key);
	if (make_room(s, 8))
		wire_tag_str(&s->tags, key, value);
}

void
span_tag_text(struct span *s, uint32_t key, const char *text, size_t n)
{
	if (key == 0)
		return;
	if (n > FRAME_TEXT_MAX_BYTES)
		n = FRAME_TEXT_MAX_BYTES + 1; /* clipped by the codec, on a character's edge */
	forget(&s->tags, key);
	if (make_room(s, 8 + WIRE_ALIGN8(n)))
		wire_tag_text(&s->tags, key, text, n);
}

void
span_metric(struct span *s, uint32_t key, double value)
{
	if (key == 0)
		return;
	forget(&s->tags, key);
	if (make_room(s, 16))
		wire_tag_f64(&s->tags, key, value);
}

static void
tag_unicode(struct span *s, uint32_t key, PyObject *value)
{
	uint32_t id = strings_constant(value);
	if (id != 0) {
		span_tag_id(s, key, id);
		return;
	}
	Py_ssize_t n;
	const char *text = PyUnicode_AsUTF8AndSize(value, &n);
	if (text != NULL) {
		span_tag_text(s, key, text, (size_t)n);
		return;
	}
	PyErr_Clear();
	PyObject *bytes = PyUnicode_AsEncodedString(value, "utf-8", "replace");
	if (bytes == NULL) {
		PyErr_Clear();
		return;
	}
	span_tag_text(s, key, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
	Py_DECREF(bytes);
}

static int
tag_as_text(struct span *s, uint32_t key, PyObject *value)
{
	PyObject *text = PyObject_Str(value);
	if (text == NULL)
		return -1;
	tag_unicode(s, key, text);
	Py_DECREF(text);
	return 0;
}

/* 1 when the key was one of the special ones and is done, -1 with an exception. */
static int
tag_special(struct span *s, uint32_t key, PyObject *value)
{
	int which = 0;
	while (which < SPECIALS && special_ids[which] != key)
		which++;
	switch (which) {
	case SERVICE:
	case RESOURCE:
	case TYPE:
		if (!PyUnicode_Check(value))
			return 0;
		if (which == RESOURCE)
			s->w.resource = strings_value_id(value);
		else
			*(which == SERVICE ? &s->w.service : &s->w.type) = strings_id(value);
		return 1;
	case KEEP:
	case DROP:
		s->w.priority = which == KEEP ? 2 : -1;
		s->w.mechanism = 4;
		return 1;
	case MEASURED:
		s->w.flags |= WIRE_SPAN_MEASURED;
		return 1;
	case STATUS: /* Datadog reads it as a string only */
		return tag_as_text(s, key, value) < 0 ? -1 : 1;
	case PORT:
		if (PyUnicode_Check(value)) {
			PyObject *number = PyLong_FromUnicodeObject(value, 10);
			if (number == NULL) {
				PyErr_Clear();
				return 0;
			}
			span_metric(s, key, PyLong_AsDouble(number));
			Py_DECREF(number);
			return 1;
		}
		return 0;
	default:
		return 0;
	}
}

int
span_tag_object(struct span *s, PyObject *key, PyObject *value)
{
	if (!PyUnicode_Check(key)) {
		PyErr_SetString(PyExc_TypeError, "a tag's key is a str");
		return -1;
	}
	uint32_t id = strings_id(key);
	if (id <= special_last) {
		int done = tag_special(s, id, value);
		if (done != 0)
			return done < 0 ? -1 : 0;
	}
	if (PyUnicode_CheckExact(value)) {
		tag_unicode(s, id, value);
		return 0;
	}
	if (PyFloat_Check(value)) {
		span_metric(s, id, PyFloat_AS_DOUBLE(value));
		return 0;
	}
	if (PyLong_Check(value) && !PyBool_Check(value)) {
		int over;
		long long v = PyLong_AsLongLongAndOverflow(value, &over);
		if (over == 0 && v >= -(1LL << 53) && v <= (1LL << 53)) {
			span_metric(s, id, (double)v);
			return 0;
		}
	}
	return tag_as_text(s, id, value);
}

void
span_tags_restart(void)
{
	special_last = 0;
	for (int i = 0; i < SPECIALS; i++) {
		special_ids[i] = comfymon_intern(special_names[i], strlen(special_names[i]));
		if (special_ids[i] > special_last)
			special_last = special_ids[i];
	}
}
