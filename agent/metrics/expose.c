/*
 * expose.c - a snapshot as Prometheus reads it.  Source of the format: Prometheus,
 * exposition_formats.md, text format version 0.0.4.
 *
 *	# HELP comfymon_pipeline_sent_spans_total spans that ...
 *	# TYPE comfymon_pipeline_sent_spans_total counter
 *	comfymon_pipeline_sent_spans_total{signal="trace"} 17
 */
#include "agent/metrics/metrics.h"
#include "agent/metrics/table.h"
#include "agent/metrics/text.h"

struct exposition {
	struct outbuf *out;
	enum metric told; /* whose head stands there, METRIC_COUNT none */
};

static void
put_name(struct outbuf *b, const struct metric_desc *d)
{
	outbuf_str(b, "comfymon_");
	outbuf_str(b, d->stage);
	outbuf_str(b, "_");
	outbuf_str(b, d->what);
	if (d->unit[0] != '\0') {
		outbuf_str(b, "_");
		outbuf_str(b, d->unit);
	}
	if (d->kind != KIND_GAUGE)
		outbuf_str(b, "_total");
}

static void
put_head(struct outbuf *b, const struct metric_desc *d)
{
	outbuf_str(b, "# HELP ");
	put_name(b, d);
	outbuf_str(b, " ");
	outbuf_str(b, d->help);
	outbuf_str(b, "\n# TYPE ");
	put_name(b, d);
	outbuf_str(b, d->kind == KIND_GAUGE ? " gauge\n" : " counter\n");
}

static void
put_labels(struct outbuf *b, const struct metric_item *item)
{
	char text[LABEL_VALUE_MAX + 1];

	for (unsigned i = 0; i < item->count; i++) {
		const struct metric_tag *t = &item->tags[i];

		outbuf_str(b, i == 0 ? "{" : ",");
		outbuf_str(b, t->key);
		outbuf_str(b, "=\"");
		outbuf_put(b, text, text_label(text, t->s, t->n));
		outbuf_str(b, "\"");
	}
	if (item->count > 0)
		outbuf_str(b, "}");
}

static void
put_value(void *ctx, const struct metric_value *v)
{
	struct exposition *x = ctx;
	const struct metric_desc *d = &metric_table[v->metric];
	char number[METRIC_NUMBER_BYTES];

	if (x->told != v->metric)
		put_head(x->out, d);
	x->told = v->metric;
	if (d->kind == KIND_GAUGE)
		metric_print_gauge(v->gauge, number);
	else
		metric_print_count(d->kind, v->count, number);
	put_name(x->out, d);
	put_labels(x->out, v->item);
	outbuf_str(x->out, " ");
	outbuf_str(x->out, number);
	outbuf_str(x->out, "\n");
}

enum err
metrics_expose(const struct status_snapshot *s, struct outbuf *out)
{
	struct exposition x = { out, METRIC_COUNT };

	metrics_walk(s, put_value, &x);
	return out->failed ? E_NOMEM : E_OK;
}
