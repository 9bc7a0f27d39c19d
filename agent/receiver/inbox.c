/*
 * inbox.c - from a whole body to an item: the full check, on the receiving
 * thread, so that the pipeline's thread never meets an unchecked byte.
 */
#include <stdio.h>
#include <stdlib.h>

#include "agent/receiver/conn.h"

bool
inbox_room(const struct receiver *r, size_t bytes)
{
	return r->held_bytes == 0 || r->held_bytes + bytes <= r->o.inbox_bytes;
}

void
inbox_malformed(struct receiver *r, const char *what, size_t at)
{
	r->stats.malformed_frames++;
	snprintf(
	    r->stats.last_malformed, sizeof r->stats.last_malformed, "%s at byte %zu", what, at);
}

/* What a body is. False: count it as malformed; *close: do not believe its sender any more. */
static bool
judge(const uint8_t *body, size_t bytes, struct intake_item *item, const uint8_t **probe_id,
    struct wire_error *err, bool *close)
{
	struct wire_hello hello;
	struct wire_batch batch;

	*close = true;
	if (bytes >= 4 && memcmp(body, HELLO_MAGIC, 4) == 0) {
		item->kind = INTAKE_HELLO;
		*probe_id = body + 8;
		return wire_hello_get(body, bytes, &hello, err) == 0;
	}
	if (bytes >= 4 && memcmp(body, BATCH_MAGIC, 4) == 0) {
		item->kind = INTAKE_BATCH;
		*probe_id = body + 8;
		if (wire_batch_check(body, bytes, &batch, err) == 0)
			return true;
		/* Its crc is right: the sender meant it so, and would send it again for ever. */
		struct wire_error ignored;

		*close = wire_batch_peek(body, bytes, &batch, &ignored) != 0;
		item->kind = INTAKE_MALFORMED;
		return false;
	}
	err->what = "unknown frame";
	err->at = 0;
	*close = false; /* a newer probe may say more than we understand */
	item->kind = INTAKE_HELLO;
	return false;
}

void
inbox_deliver(struct receiver *r, struct conn *c, uint8_t *body, size_t bytes)
{
	struct inbox_node *n = malloc(sizeof *n);
	struct intake_item item = { .body = body, .body_bytes = bytes };
	const uint8_t *probe_id = NULL;
	struct wire_error err = { .what = "" };
	bool close = false, good = judge(body, bytes, &item, &probe_id, &err, &close);
	bool keep = n != NULL && (good || item.kind == INTAKE_MALFORMED) && (good || !close);

	pthread_mutex_lock(&r->lock);
	r->stats.frames++;
	if (!good)
		inbox_malformed(r, err.what, err.at);
	if (good && item.kind == INTAKE_HELLO) {
		r->stats.hellos++;
		c->said_hello = true;
	}
	r->stats.batches += good && item.kind == INTAKE_BATCH;
	if (good) {
		if (c->has_probe && item.kind == INTAKE_BATCH &&
		    memcmp(c->probe_id, probe_id, FRAME_PROBE_ID_BYTES) != 0)
			c->said_hello = false; /* the hello spoke for another */
		memcpy(c->probe_id, probe_id, FRAME_PROBE_ID_BYTES);
		c->has_probe = true;
	}
	if (keep && c->state != CONN_CLOSING) {
		item.connection = (uint64_t)c->generation << 32 | (c->slot + 1);
		item.said_hello = c->said_hello;
		n->item = item;
		n->next = NULL;
		if (r->last != NULL)
			r->last->next = n;
		else
			r->first = n;
		r->last = n;
		n = NULL;
		body = NULL;
	} else {
		r->held_bytes -= bytes;
		if ((good && n == NULL) || close)
			conn_close(c);
	}
	pthread_mutex_unlock(&r->lock);
	free(n);
	free(body);
}
