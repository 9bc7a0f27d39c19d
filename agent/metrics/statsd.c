/*
 * statsd.c - see statsd.h.
 */
#include "agent/metrics/statsd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/metrics/table.h"
#include "agent/metrics/text.h"

#define GLOBALS_MAX 32u
/* Of a line without tags of its own or of all: "comfymon.stage.what:number|g|#". */
#define HEAD_BYTES   100u
#define OWN_BYTES    (METRIC_TAGS * (TAG_VALUE_MAX + 20u))
#define LINE_BYTES   (HEAD_BYTES + OWN_BYTES + GLOBAL_BYTES)
#define GLOBAL_BYTES (STATSD_UDP_BYTES - HEAD_BYTES - OWN_BYTES)
#define LINES_MAX    512u  /* counts in one datagram */
#define SERIES_MAX   1024u /* counts with their tags; the table has room for fewer than half */

/* A tag of every line. */
struct global {
	char text[2 * TAG_VALUE_MAX + 2]; /* "key:value" */
	size_t key_bytes;
};

/* A count with its tags, and how much of it was told. */
struct series {
	enum metric metric;
	char *tags; /* its own, as in a line */
	uint64_t told;
	uint64_t before; /* told before flush `flush` */
	uint64_t flush;  /* that told of it last */
};

struct statsd {
	struct statsd_options o;
	struct global globals[GLOBALS_MAX];
	unsigned global_count, left_out;
	size_t global_bytes; /* of them, in a line */

	struct series *series;
	size_t series_count;
	uint64_t flush;
	unsigned flushed; /* datagrams of the last flush that went out */
	bool well;        /* all so far of this one */

	char datagram[STATSD_UNIX_BYTES];
	size_t n;
	struct {
		size_t series;
		uint64_t total;
	} lines[LINES_MAX]; /* of the datagram: what they say of counts */
	unsigned line_count;
};

/* ---- tags of every line ---------------------------------------------------- */

static bool
has_global(const struct statsd *d, const char *key, size_t n)
{
	for (unsigned i = 0; i < d->global_count; i++)
		if (d->globals[i].key_bytes == n && memcmp(d->globals[i].text, key, n) == 0)
			return true;
	return false;
}

/* The first of a key stays. value NULL: a tag without one. */
static void
add_global(struct statsd *d, const char *key, size_t key_n, const char *value, size_t value_n)
{
	char k[TAG_VALUE_MAX + 1], v[TAG_VALUE_MAX + 1] = "";
	size_t n;
	struct global *g = &d->globals[d->global_count];

	key_n = text_statsd(k, key, key_n, true);
	value_n = value != NULL ? text_statsd(v, value, value_n, false) : 0;
	if (key_n == 0 || (value != NULL && value_n == 0) || has_global(d, k, key_n))
		return;
	n = key_n + (value_n > 0 ? 1 + value_n : 0) + 1; /* with the comma */
	if (d->global_count == GLOBALS_MAX || d->global_bytes + n > GLOBAL_BYTES) {
		d->left_out++;
		return;
	}
	snprintf(g->text, sizeof g->text, "%s%s%s", k, value_n > 0 ? ":" : "", v);
	g->key_bytes = key_n;
	d->global_count++;
	d->global_bytes += n;
}

static void
add_option(struct statsd *d, const char *key, const char *value)
{
	if (value != NULL && value[0] != '\0')
		add_global(d, key, strlen(key), value, strlen(value));
}

/* "k:v,k:v", or separated by blanks where there is no comma. */
static void
add_list(struct statsd *d, const char *list, bool identity)
{
	const char *separators = strchr(list, ',') != NULL ? "," : " \t";

	for (const char *p = list + strspn(list, ", \t"); *p != '\0'; p += strspn(p, ", \t")) {
		size_t n = strcspn(p, separators), key_n;
		const char *colon = memchr(p, ':', n);
		bool is_identity;

		key_n = colon != NULL ? (size_t)(colon - p) : n;
		is_identity = (key_n == 7 &&
				  (memcmp(p, "service", 7) == 0 || memcmp(p, "version", 7) == 0)) ||
			      (key_n == 3 && memcmp(p, "env", 3) == 0);
		if (is_identity == identity)
			add_global(d, p, key_n, colon != NULL ? colon + 1 : NULL,
			    colon != NULL ? n - key_n - 1 : 0);
		p += n;
	}
}

/* As on spans: service, env and version of DD_TAGS stand for those of their own; they come first,
 * so that it is another tag that has no room. */
static void
add_globals(struct statsd *d, const struct statsd_options *o)
{
	const char *tags = o->tags != NULL ? o->tags : "";

	add_list(d, tags, true);
	add_option(d, "service", o->service);
	add_option(d, "env", o->env);
	add_option(d, "version", o->version);
	add_option(d, "host", o->hostname);
	add_list(d, tags, false);
}

/* ---- counts ------------------------------------------------------------------ */

static struct series *
series_of(struct statsd *d, enum metric m, const char *tags)
{
	struct series *s;

	for (size_t i = 0; i < d->series_count; i++)
		if (d->series[i].metric == m && strcmp(d->series[i].tags, tags) == 0)
			return &d->series[i];
	s = &d->series[d->series_count];
	if (d->series_count == SERIES_MAX || (s->tags = strdup(tags)) == NULL)
		return NULL; /* out of memory: the next flush may have it */
	s->metric = m;
	d->series_count++;
	return s;
}

static void
send_datagram(struct statsd *d)
{
	bool sent = d->n > 0 && d->o.send(d->o.ctx, d->datagram, d->n);

	for (unsigned i = 0; sent && i < d->line_count; i++) {
		struct series *s = &d->series[d->lines[i].series];

		s->before = s->told;
		s->told = d->lines[i].total;
		s->flush = d->flush;
	}
	d->flushed += sent;
	d->well = d->well && (sent || d->n == 0);
	d->n = d->line_count = 0;
}

/* ---- lines ------------------------------------------------------------------- */

/* "pid:17,service:x" */
static size_t
own_tags(char out[OWN_BYTES + 1], const struct metric_item *item)
{
	char text[TAG_VALUE_MAX + 1];
	size_t n = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < item->count; i++) {
		const struct metric_tag *t = &item->tags[i];

		if (text_statsd(text, t->s, t->n, false) > 0)
			n += (size_t)snprintf(
			    out + n, OWN_BYTES + 1 - n, "%s%s:%s", n > 0 ? "," : "", t->key, text);
	}
	return n;
}

static bool
has_own(const struct metric_item *item, const struct global *g)
{
	for (unsigned i = 0; i < item->count; i++)
		if (strlen(item->tags[i].key) == g->key_bytes &&
		    memcmp(item->tags[i].key, g->text, g->key_bytes) == 0)
			return true;
	return false;
}

static size_t
make_line(const struct statsd *d, const struct metric_value *v, const char *number, const char *own,
    char line[LINE_BYTES + 1])
{
	const struct metric_desc *m = &metric_table[v->metric];
	const char *lead = "|#";
	size_t n = (size_t)snprintf(line, LINE_BYTES, "comfymon.%s.%s:%s|%s", m->stage, m->what,
	    number, m->kind == KIND_GAUGE ? "g" : "c");

	if (own[0] != '\0') {
		n += (size_t)snprintf(line + n, LINE_BYTES + 1 - n, "|#%s", own);
		lead = ",";
	}
	for (unsigned i = 0; i < d->global_count; i++) {
		if (has_own(v->item, &d->globals[i]))
			continue; /* what a process says of itself goes before */
		n += (size_t)snprintf(
		    line + n, LINE_BYTES + 1 - n, "%s%s", lead, d->globals[i].text);
		lead = ",";
	}
	return n;
}

/* Room for a line in the datagram: what is there goes out first when there is none. */
static void
put_line(struct statsd *d, const char *line, size_t n)
{
	if (d->n + (d->n > 0) + n > d->o.datagram_bytes || d->line_count == LINES_MAX)
		send_datagram(d);
	if (d->n > 0)
		d->datagram[d->n++] = '\n';
	memcpy(d->datagram + d->n, line, n);
	d->n += n;
}

static void
put_value(void *ctx, const struct metric_value *v)
{
	struct statsd *d = ctx;
	enum metric_kind kind = metric_table[v->metric].kind;
	char own[OWN_BYTES + 1], line[LINE_BYTES + 1], number[METRIC_NUMBER_BYTES];
	struct series *s = NULL;
	size_t n;

	(void)own_tags(own, v->item);
	if (kind == KIND_GAUGE) {
		metric_print_gauge(v->gauge, number);
	} else {
		s = series_of(d, v->metric, own);
		if (s != NULL && v->count < s->told)
			s->told = v->count; /* begun anew, as after a salvage of the buffer */
		if (s == NULL || v->count == s->told)
			return;
		metric_print_count(kind, v->count - s->told, number);
	}
	n = make_line(d, v, number, own, line);
	put_line(d, line, n);
	if (s != NULL) {
		d->lines[d->line_count].series = (size_t)(s - d->series);
		d->lines[d->line_count++].total = v->count;
	}
}

/* ---- the object ---------------------------------------------------------------- */

enum err
statsd_new(const struct statsd_options *o, struct statsd **out)
{
	struct statsd *d = calloc(1, sizeof *d);

	if (d == NULL)
		return E_NOMEM;
	d->series = calloc(SERIES_MAX, sizeof *d->series);
	if (d->series == NULL) {
		free(d);
		return E_NOMEM;
	}
	d->o = *o;
	add_globals(d, o);
	*out = d;
	return E_OK;
}

void
statsd_free(struct statsd *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->series_count; i++)
		free(d->series[i].tags);
	free(d->series);
	free(d);
}

static void
remember(void *ctx, const struct metric_value *v)
{
	char own[OWN_BYTES + 1];
	struct series *s;

	if (metric_table[v->metric].kind == KIND_GAUGE)
		return;
	(void)own_tags(own, v->item);
	s = series_of(ctx, v->metric, own);
	if (s != NULL)
		s->told = s->before = v->count;
}

void
statsd_begin(struct statsd *d, const struct status_snapshot *s)
{
	metrics_walk(s, remember, d);
}

bool
statsd_flush(struct statsd *d, const struct status_snapshot *s)
{
	d->flush++;
	d->flushed = 0;
	d->well = true;
	metrics_walk(s, put_value, d);
	send_datagram(d);
	return d->well;
}

unsigned
statsd_take_back(struct statsd *d)
{
	unsigned n = d->flushed;

	for (size_t i = 0; i < d->series_count; i++)
		if (n > 0 && d->series[i].flush == d->flush)
			d->series[i].told = d->series[i].before;
	d->flushed = 0;
	return n;
}

unsigned
statsd_tags_left_out(const struct statsd *d)
{
	return d->left_out;
}
