/*
 * request.c - the leases of a line into one body: as many chunks as fit below
 * the limit of a request, at least the first.  Exporter's thread.
 */
#include <string.h>

#include "agent/exporter/line.h"
#include "agent/exporter/payload.h"

#define BODY_KEEP_BYTES (1024u * 1024)

/* The identity of a lease's probe, kept while it stays the same. */
static enum err
identity_for(struct line *l, const struct lease *lease)
{
	struct span_defaults d = { l->options.service, l->options.env, l->options.version,
		l->options.hostname, l->options.tags, l->options.service_mapping };

	if (l->identity != NULL && span_identity_is(l->identity, lease->probe))
		return E_OK;
	span_identity_free(l->identity);
	l->identity = NULL;
	return span_identity_new(lease->probe, &d, &l->identity);
}

/* Are both of the same interpreter?  A request names one. */
static bool
same_language(const struct lease *a, const struct lease *b)
{
	char one[40] = "", two[40] = "";

	if (a->probe->id == b->probe->id)
		return true;
	(void)wire_attr_find(
	    a->probe->attrs, a->probe->attrs_bytes, "language_version", one, sizeof one);
	(void)wire_attr_find(
	    b->probe->attrs, b->probe->attrs_bytes, "language_version", two, sizeof two);
	return strcmp(one, two) == 0;
}

static enum err
append(struct line *l, const struct lease *lease, uint32_t *traces)
{
	enum err e = identity_for(l, lease);

	if (e != E_OK)
		return e;
	return l->options.kind == DEST_FILE
		   ? payload_lines(l->view, &lease->chunk, l->identity, &l->body)
		   : payload_msgpack(l->view, &lease->chunk, l->identity, &l->body, traces);
}

/* What becomes of one lease; its bytes stay in the body when it goes. */
static enum err
add(struct line *l, const struct lease *lease, size_t limit, enum fate *fate)
{
	size_t before = l->body.n;
	uint32_t traces = 0;
	enum err e = append(l, lease, &traces);

	if (e == E_NOMEM)
		return e;
	*fate = e != E_OK            ? FATE_BROKEN
		: l->body.n <= limit ? FATE_GOES
		: l->goes > 0        ? FATE_LATER
				     : FATE_TOO_LARGE;
	if (*fate != FATE_GOES) {
		l->body.n = before;
		return E_OK;
	}
	l->goes++;
	l->traces += traces;
	return E_OK;
}

enum err
request_encode(struct line *l)
{
	size_t limit =
	    l->options.request_max_bytes > 0 ? l->options.request_max_bytes : REQUEST_MAX_BYTES;
	size_t blobs = 0, head;
	bool full = false;

	/* The buffer follows the last body: kept while the traffic is heavy, given back after. */
	outbuf_reset(&l->body, l->body.n > BODY_KEEP_BYTES / 4 ? 4 * l->body.n : BODY_KEEP_BYTES);
	l->goes = 0;
	l->traces = 0;
	if (l->options.kind != DEST_FILE)
		payload_begin(&l->body);
	head = l->body.n;
	for (size_t i = 0; i < l->lease_count; i++) {
		const struct lease *lease = &l->leases[i];
		enum err e;

		l->fates[i] = FATE_LATER;
		if (full || (l->goes > 0 && !same_language(&l->leases[0], lease)))
			continue;
		if ((e = add(l, lease, limit, &l->fates[i])) != E_OK)
			return e;
		full = l->fates[i] == FATE_LATER || l->fates[i] == FATE_TOO_LARGE;
		blobs += l->fates[i] == FATE_GOES ? lease->chunk.blob_bytes : 0;
	}
	if (l->options.kind != DEST_FILE)
		payload_end(&l->body, l->traces);
	if (blobs > 0)
		l->learnt = (uint32_t)((l->body.n - head) * 16 / blobs) + 1;
	return l->body.failed ? E_NOMEM : E_OK;
}
