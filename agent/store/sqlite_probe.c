/*
 * sqlite_probe.c - probes: who spoke, and how far each stream is stored.  The
 * owner's thread only.
 */
#include "agent/store/sqlite.h"

static void
blob_into(sqlite3_stmt *q, int column, void *out, size_t n)
{
	const void *p = sqlite3_column_blob(q, column);

	if (p != NULL && (size_t)sqlite3_column_bytes(q, column) == n)
		memcpy(out, p, n);
	else
		memset(out, 0, n);
}

void
probe_read(sqlite3_stmt *q, struct probe_row *out)
{
	memset(out, 0, sizeof *out);
	out->id = sqlite3_column_int64(q, 0);
	blob_into(q, 1, out->probe_id, sizeof out->probe_id);
	blob_into(q, 2, out->boot_id, sizeof out->boot_id);
	out->pid = sq_u64(q, 3);
	out->start_ticks = sq_u64(q, 4);
	out->end = sq_u64(q, 5);
	out->closed = sqlite3_column_int(q, 6) != 0;
	blob_into(q, 7, out->losses, sizeof out->losses);
	out->spans = sq_u64(q, 8);
	out->mono_ns = sq_u64(q, 9);
	out->real_ns = sq_u64(q, 10);
	out->seen_real_ns = sq_u64(q, 11);

	const void *attrs = sqlite3_column_blob(q, 12);
	int n = sqlite3_column_bytes(q, 12);

	if (attrs != NULL && n > 0 && (size_t)n <= sizeof out->attrs) {
		memcpy(out->attrs, attrs, (size_t)n);
		out->attrs_bytes = (uint32_t)n;
	}
}

enum err
probe_write(struct sqlite_store *s, const struct probe_row *p)
{
	sqlite3_stmt *q = sq(s, STMT_PROBE_PUT);

	sqlite3_bind_int64(q, 1, p->id);
	sqlite3_bind_blob(q, 2, p->probe_id, sizeof p->probe_id, SQLITE_STATIC);
	sqlite3_bind_blob(q, 3, p->boot_id, sizeof p->boot_id, SQLITE_STATIC);
	sqlite3_bind_int64(q, 4, (int64_t)p->pid);
	sqlite3_bind_int64(q, 5, (int64_t)p->start_ticks);
	sqlite3_bind_int64(q, 6, (int64_t)p->end);
	sqlite3_bind_int(q, 7, p->closed);
	sqlite3_bind_blob(q, 8, p->losses, sizeof p->losses, SQLITE_STATIC);
	sqlite3_bind_int64(q, 9, (int64_t)p->spans);
	sqlite3_bind_int64(q, 10, (int64_t)p->mono_ns);
	sqlite3_bind_int64(q, 11, (int64_t)p->real_ns);
	sqlite3_bind_int64(q, 12, (int64_t)p->seen_real_ns);
	if (p->attrs_bytes > 0)
		sqlite3_bind_blob(q, 13, p->attrs, (int)p->attrs_bytes, SQLITE_STATIC);
	else
		sqlite3_bind_zeroblob(q, 13, 0);
	return sq_done(s, q);
}

static enum err
read_one(struct sqlite_store *s, sqlite3_stmt *q, struct probe_row *out)
{
	enum err e = sq_row(s, q);

	if (e != E_OK)
		return e;
	probe_read(q, out);
	sq_reset(q);
	return E_OK;
}

enum err
sqlite_probe_get(
    struct store *st, const uint8_t probe_id[FRAME_PROBE_ID_BYTES], struct probe_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_PROBE_GET);

	sqlite3_bind_blob(q, 1, probe_id, FRAME_PROBE_ID_BYTES, SQLITE_STATIC);
	return read_one(s, q, out);
}

enum err
sqlite_probe_by_row(struct store *st, int64_t id, struct probe_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_PROBE_BY_ROW);

	sqlite3_bind_int64(q, 1, id);
	return read_one(s, q, out);
}

enum err
sqlite_probe_next(struct store *st, int64_t *id, struct probe_row *out)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q = sq(s, STMT_PROBE_NEXT);
	enum err e;

	sqlite3_bind_int64(q, 1, *id);
	e = read_one(s, q, out);
	if (e == E_OK && out->id <= *id) /* a damaged tree: this walk would not end */
		return sq_fail(s, SQLITE_CORRUPT);
	if (e == E_OK)
		*id = out->id;
	return e;
}

enum err
sqlite_probe_put(struct store *st, struct probe_row *p)
{
	struct sqlite_store *s = sqlite_of(st);
	struct probe_row row;
	bool own;
	enum err e;

	if (p->attrs_bytes > FRAME_ATTRS_MAX_BYTES)
		return common_fail(&s->c, E_INVAL, "identity of %u bytes", p->attrs_bytes);
	e = own_begin(s, &own);
	if (e != E_OK)
		return e;
	e = sqlite_probe_get(st, p->probe_id, &row);
	if (e == E_NOTFOUND) {
		row = *p;
		row.id = ++s->last_probe;
		row.spans = 0;
		e = E_OK;
	} else if (e == E_OK) {
		probe_merge(&row, p);
	}
	if (e == E_OK)
		e = probe_write(s, &row);
	e = own_end(s, own, e);
	if (e == E_OK)
		*p = row;
	return e;
}

enum err
sqlite_probe_close(struct store *st, int64_t id)
{
	struct sqlite_store *s = sqlite_of(st);
	sqlite3_stmt *q;
	bool own;
	enum err e = own_begin(s, &own);

	if (e != E_OK)
		return e;
	q = sq(s, STMT_PROBE_CLOSE);
	sqlite3_bind_int64(q, 1, id);
	e = sq_done(s, q);
	if (e == E_OK && sqlite3_changes(s->db) == 0)
		e = E_NOTFOUND;
	return own_end(s, own, e);
}
