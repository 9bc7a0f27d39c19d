/* propagation.c - see propagation.h */
#include "probe/python/propagation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

unsigned
propagation_styles(const char *list, bool *bad)
{
	static const struct {
		const char *name;
		unsigned style;
	} names[] = {
		{ "datadog", PROPAGATION_DATADOG },
		{ "tracecontext", PROPAGATION_TRACECONTEXT },
		{ "baggage", 0 },
		{ "b3multi", 0 },
		{ "b3", 0 },
		{ "none", 0 },
	};
	unsigned styles = 0;
	for (const char *p = list + strspn(list, ", "); *p != '\0'; p += strspn(p, ", ")) {
		size_t n = strcspn(p, ", "), i = 0, count = sizeof names / sizeof *names;
		while (i < count &&
		       (strlen(names[i].name) != n || strncasecmp(names[i].name, p, n) != 0))
			i++;
		if (i < count)
			styles |= names[i].style;
		else
			*bad = true;
		p += n;
	}
	return styles;
}

/* Exactly n lower-case hex digits. */
static bool
hex(const char *p, size_t n, uint64_t *out)
{
	uint64_t v = 0;
	for (size_t i = 0; i < n; i++) {
		char c = p[i];
		if (c >= '0' && c <= '9')
			v = v << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			v = v << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*out = v;
	return true;
}

static bool
decimal(const char *p, uint64_t *out)
{
	uint64_t v = 0;
	size_t n = strlen(p);
	if (n == 0 || n > 20)
		return false;
	for (; *p != '\0'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');
		if (*p < '0' || *p > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, digit, &v))
			return false;
	}
	*out = v;
	return true;
}

/* A number from -128 to 126 that ends at `n`. */
static bool
small(const char *p, size_t n, int8_t *out)
{
	bool negative = n > 0 && *p == '-';
	int v = 0;
	size_t i = negative ? 1 : 0;
	if (n <= i || n - i > 3)
		return false;
	for (; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		v = v * 10 + (p[i] - '0');
	}
	v = negative ? -v : v;
	if (v < -128 || v > 126)
		return false;
	*out = (int8_t)v;
	return true;
}

static bool
printable(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || (unsigned char)p[i] > 0x7e)
			return false;
	return true;
}

/* One _dd.p.* tag: the decision maker and the high bits have fields of their own. */
static void
take_tag(struct propagation *p, const char *key, size_t key_n, const char *value, size_t n)
{
	if (!printable(key, key_n) || !printable(value, n) || key_n == 0 || n == 0)
		return;
	if (key_n == 2 && memcmp(key, "dm", 2) == 0) {
		int8_t m;
		if (small(value, n, &m) && m <= 0 && m != -128)
			p->mechanism = (int8_t)-m;
		return;
	}
	if (key_n == 3 && memcmp(key, "tid", 3) == 0) {
		uint64_t hi;
		if (n == 16 && hex(value, 16, &hi))
			p->trace_hi = hi;
		return;
	}
	size_t at = strlen(p->tags), need = (at > 0) + 6 + key_n + 1 + n;
	if (at + need > PROPAGATION_TAGS_BYTES)
		return;
	snprintf(p->tags + at, sizeof p->tags - at, "%s_dd.p.%.*s=%.*s", at > 0 ? "," : "",
	    (int)key_n, key, (int)n, value);
}

static bool
extract_datadog(const struct propagation_headers *h, struct propagation *p)
{
	if (h->trace_id == NULL || !decimal(h->trace_id, &p->trace_lo) || p->trace_lo == 0)
		return false;
	if (h->parent_id != NULL && !decimal(h->parent_id, &p->parent_id))
		p->parent_id = 0;
	int8_t v;
	if (h->priority != NULL && small(h->priority, strlen(h->priority), &v) && v >= -1 && v <= 2)
		p->priority = v;
	if (h->origin != NULL && strlen(h->origin) < sizeof p->origin &&
	    printable(h->origin, strlen(h->origin)))
		strcpy(p->origin, h->origin);
	if (h->tags == NULL || strlen(h->tags) > PROPAGATION_TAGS_BYTES)
		return true;
	for (const char *t = h->tags; *t != '\0';) {
		size_t n = strcspn(t, ",");
		const char *equals = memchr(t, '=', n);
		if (equals != NULL && strncmp(t, "_dd.p.", 6) == 0 && equals > t + 6)
			take_tag(p, t + 6, (size_t)(equals - t) - 6, equals + 1,
			    n - (size_t)(equals - t) - 1);
		t += n + (t[n] == ',');
	}
	return true;
}

/* A member of the dd list in tracestate: s, o, p, t.*; '~' stands for '='. */
static void
take_member(struct propagation *p, const char *m, size_t n)
{
	char value[260];
	const char *colon = memchr(m, ':', n);
	if (colon == NULL)
		return;
	size_t key_n = (size_t)(colon - m), value_n = n - key_n - 1;
	if (value_n >= sizeof value)
		return;
	for (size_t i = 0; i < value_n; i++)
		value[i] = colon[1 + i] == '~' ? '=' : colon[1 + i];
	value[value_n] = '\0';
	if (key_n == 1 && *m == 's')
		(void)small(value, value_n, &p->priority);
	else if (key_n == 1 && *m == 'o' && value_n < sizeof p->origin && printable(value, value_n))
		strcpy(p->origin, value);
	else if (key_n == 1 && *m == 'p' && value_n == 16) {
		uint64_t id;
		if (hex(value, 16, &id))
			strcpy(p->last_parent, value);
	} else if (key_n > 2 && m[0] == 't' && m[1] == '.')
		take_tag(p, m + 2, key_n - 2, value, value_n);
}

static void
extract_tracestate(const char *state, struct propagation *p)
{
	for (const char *s = state; *s != '\0';) {
		s += strspn(s, " \t,");
		size_t n = strcspn(s, ",");
		while (n > 3 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
			n--;
		if (n > 3 && strncmp(s, "dd=", 3) == 0) {
			for (const char *m = s + 3, *end = s + n; m < end;) {
				const char *stop = memchr(m, ';', (size_t)(end - m));
				size_t length = (size_t)((stop != NULL ? stop : end) - m);
				take_member(p, m, length);
				m += length + 1;
			}
			return;
		}
		s += strcspn(s, ",");
	}
}

static bool
extract_tracecontext(const struct propagation_headers *h, struct propagation *p)
{
	uint64_t version, flags;
	const char *t = h->traceparent;
	size_t n = t != NULL ? strlen(t) : 0;
	if (n < 55 || !hex(t, 2, &version) || version == 0xff || (version == 0 && n != 55) ||
	    (n > 55 && t[55] != '-') || t[2] != '-' || t[35] != '-' || t[52] != '-')
		return false;
	uint64_t hi;
	if (!hex(t + 3, 16, &hi) || !hex(t + 19, 16, &p->trace_lo) ||
	    !hex(t + 36, 16, &p->parent_id) || !hex(t + 53, 2, &flags))
		return false;
	if ((hi == 0 && p->trace_lo == 0) || p->parent_id == 0)
		return false;
	if (h->tracestate != NULL)
		extract_tracestate(h->tracestate, p);
	p->trace_hi = hi; /* the header's own, whatever a tid in the state says */
	bool keep = (flags & 1) != 0, state_keeps = p->priority > 0;
	if (p->priority == PROPAGATION_NONE || keep != state_keeps) {
		p->priority = keep;
		p->mechanism = PROPAGATION_NONE;
	}
	return p->trace_lo != 0;
}

static const struct propagation nothing = { .priority = PROPAGATION_NONE,
	.mechanism = PROPAGATION_NONE };

bool
propagation_extract(const struct propagation_headers *h, unsigned styles, struct propagation *out)
{
	struct propagation dd = nothing, w3c = nothing;
	bool has_dd = (styles & PROPAGATION_DATADOG) != 0 && extract_datadog(h, &dd);
	bool has_w3c = (styles & PROPAGATION_TRACECONTEXT) != 0 && extract_tracecontext(h, &w3c);
	if (!has_dd && !has_w3c)
		return false;
	if (has_dd && has_w3c && dd.trace_lo == w3c.trace_lo && dd.parent_id != w3c.parent_id) {
		/* A hop that speaks W3C only lies between: its span is the parent. */
		if (w3c.last_parent[0] == '\0' && dd.parent_id != 0)
			snprintf(
			    w3c.last_parent, sizeof w3c.last_parent, "%016" PRIx64, dd.parent_id);
		dd.parent_id = w3c.parent_id;
		memcpy(dd.last_parent, w3c.last_parent, sizeof dd.last_parent);
		if (dd.trace_hi == 0)
			dd.trace_hi = w3c.trace_hi;
	}
	*out = has_dd ? dd : w3c;
	return true;
}

void
propagation_traceparent(const struct propagation *p, char out[56])
{
	bool keep = p->priority > 0 && p->priority != PROPAGATION_NONE;
	snprintf(out, 56, "00-%016" PRIx64 "%016" PRIx64 "-%016" PRIx64 "-%s", p->trace_hi,
	    p->trace_lo, p->parent_id, keep ? "01" : "00");
}

size_t
propagation_tracestate(const struct propagation *p, char out[PROPAGATION_STATE_BYTES])
{
	size_t cap = PROPAGATION_STATE_BYTES;
	int at = snprintf(out, cap, "dd=");
	if (p->priority != PROPAGATION_NONE)
		at += snprintf(out + at, cap - (size_t)at, "s:%d;", p->priority);
	if (p->origin[0] != '\0') {
		int from = at + 2;
		at += snprintf(out + at, cap - (size_t)at, "o:%s;", p->origin);
		/* What ends a member or a list would let a stranger's origin write others. */
		for (int i = from; i < at - 1; i++)
			if (strchr(",;~", out[i]) != NULL)
				out[i] = '_';
	}
	at += snprintf(out + at, cap - (size_t)at, "p:%016" PRIx64, p->parent_id);
	if (p->mechanism != PROPAGATION_NONE)
		at += snprintf(out + at, cap - (size_t)at, ";t.dm:-%d", p->mechanism);
	for (int i = 3; i < at; i++)
		if (out[i] == '=')
			out[i] = '~';
	return (size_t)at;
}
