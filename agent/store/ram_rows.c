/*
 * ram_rows.c - rows of the volatile store, how they are found, and the undo log.
 * The owner's thread only.
 */
#include <stdlib.h>

#include "agent/store/store_ram.h"

uint8_t *
ram_copy(const uint8_t *p, size_t n)
{
	uint8_t *copy = malloc(n > 0 ? n : 1);

	if (copy != NULL && n > 0)
		memcpy(copy, p, n);
	return copy;
}

/* A row has what its kind needs of the union, and no more. */
static size_t
row_bytes(enum ram_kind kind)
{
	static const size_t of[RAM_KINDS] = {
		[RAM_PROBE] = sizeof(struct probe_row),
		[RAM_RAW] = sizeof(struct raw_row),
		[RAM_SEGMENT] = sizeof(struct segment_row),
		[RAM_CHUNK] = sizeof(struct ram_chunk),
		[RAM_META] = sizeof(struct ram_meta),
		[RAM_JOB] = sizeof(struct ram_job),
		[RAM_NOTICE] = sizeof(struct ram_notice),
	};

	return offsetof(struct ram_row, u) + of[kind];
}

static void
row_free(struct ram_row *row)
{
	free(row->blob);
	free(row);
}

/* ---- the index ---------------------------------------------------------- */

static int64_t
key_of(const struct ram_row *row, enum ram_index_by by)
{
	return by == RAM_BY_JOB ? row->u.notice.row.job : row->id;
}

static struct ram_row **
slot_of(const struct ram_index *x, enum ram_kind kind, int64_t key)
{
	uint64_t h = ((uint64_t)key * RAM_KINDS + kind) * UINT64_C(0x9e3779b97f4a7c15);

	return &x->slots[(h >> 32) & (x->size - 1)];
}

/* Room for one more. */
static enum err
index_grow(struct ram_index *x, enum ram_index_by by)
{
	size_t size = x->size > 0 ? 2 * x->size : 64;
	struct ram_index wider = { .size = size, .count = x->count };

	if (x->count < x->size)
		return E_OK;
	wider.slots = calloc(size, sizeof(struct ram_row *));
	if (wider.slots == NULL)
		return E_NOMEM;
	for (size_t i = 0; i < x->size; i++)
		for (struct ram_row *row = x->slots[i], *next; row != NULL; row = next) {
			struct ram_row **to = slot_of(&wider, row->kind, key_of(row, by));

			next = row->chain[by];
			row->chain[by] = *to;
			*to = row;
		}
	free(x->slots);
	*x = wider;
	return E_OK;
}

static void
index_add(struct ram_index *x, enum ram_index_by by, struct ram_row *row)
{
	struct ram_row **slot = slot_of(x, row->kind, key_of(row, by));

	row->chain[by] = *slot;
	*slot = row;
	x->count++;
}

static void
index_take(struct ram_index *x, enum ram_index_by by, const struct ram_row *row)
{
	struct ram_row **at = slot_of(x, row->kind, key_of(row, by));

	while (*at != row)
		at = &(*at)->chain[by];
	*at = row->chain[by];
	x->count--;
}

/* ---- lists -------------------------------------------------------------- */

void
ram_newest(struct ram_store *r, struct ram_row *job)
{
	struct ram_job *j = &job->u.job;

	j->older->u.job.newer = j->newer;
	j->newer->u.job.older = j->older;
	j->newer = &r->versions;
	j->older = r->versions.u.job.older;
	j->older->u.job.newer = j->newer->u.job.older = job;
}

/* Behind prev, and a job behind its older one: both are as the row says. */
static void
attach(struct ram_store *r, struct ram_row *row)
{
	row->next = row->prev->next;
	row->prev->next = row->next->prev = row;
	index_add(&r->index[RAM_BY_ID], RAM_BY_ID, row);
	if (row->kind == RAM_NOTICE)
		index_add(&r->index[RAM_BY_JOB], RAM_BY_JOB, row);
	if (row->kind == RAM_JOB) {
		row->u.job.newer = row->u.job.older->u.job.newer;
		row->u.job.older->u.job.newer = row->u.job.newer->u.job.older = row;
	}
	r->bytes += row->bytes;
	if (row->kind == RAM_JOB || row->kind == RAM_NOTICE)
		r->journal_bytes += row->bytes;
}

static void
detach(struct ram_store *r, struct ram_row *row)
{
	row->prev->next = row->next;
	row->next->prev = row->prev;
	index_take(&r->index[RAM_BY_ID], RAM_BY_ID, row);
	if (row->kind == RAM_NOTICE)
		index_take(&r->index[RAM_BY_JOB], RAM_BY_JOB, row);
	if (row->kind == RAM_JOB) {
		row->u.job.older->u.job.newer = row->u.job.newer;
		row->u.job.newer->u.job.older = row->u.job.older;
	}
	r->bytes -= row->bytes;
	if (row->kind == RAM_JOB || row->kind == RAM_NOTICE)
		r->journal_bytes -= row->bytes;
}

/* ---- changes ------------------------------------------------------------ */

static enum err
note(struct ram_store *r, enum undo_kind kind, struct ram_row *row, struct ram_row *before)
{
	if (r->log_count == r->log_cap) {
		size_t cap = r->log_cap > 0 ? 2 * r->log_cap : 64;
		struct undo *p = realloc(r->log, cap * sizeof *p);

		if (p == NULL)
			return common_fail(&r->c, E_NOMEM, "out of memory");
		r->log = p;
		r->log_cap = cap;
	}
	r->log[r->log_count++] = (struct undo){ kind, row, before, NULL };
	return E_OK;
}

struct ram_row *
ram_new(struct ram_store *r, enum ram_kind kind, const uint8_t *blob, size_t bytes)
{
	struct ram_row *row = calloc(1, row_bytes(kind));

	if (row != NULL)
		row->blob = ram_copy(blob, bytes);
	if (row == NULL || row->blob == NULL) {
		free(row);
		common_fail(&r->c, E_NOMEM, "out of memory");
		return NULL;
	}
	row->kind = kind;
	row->bytes = bytes + row_bytes(kind);
	return row;
}

enum err
ram_link(struct ram_store *r, struct ram_row *row)
{
	struct ram_row *prev = r->ends[row->kind].prev;
	enum err e = index_grow(&r->index[RAM_BY_ID], RAM_BY_ID);

	if (e == E_OK && row->kind == RAM_NOTICE)
		e = index_grow(&r->index[RAM_BY_JOB], RAM_BY_JOB);
	if (e == E_OK)
		e = note(r, UNDO_INSERT, row, NULL);
	if (e != E_OK) {
		row_free(row);
		return common_fail(&r->c, E_NOMEM, "out of memory");
	}
	if (row->id == 0)
		row->id = r->last[row->kind] + 1;
	if (row->id > r->last[row->kind])
		r->last[row->kind] = row->id;
	while (prev != &r->ends[row->kind] && prev->id > row->id)
		prev = prev->prev;
	row->prev = prev;
	if (row->kind == RAM_JOB)
		row->u.job.older = r->versions.u.job.older;
	attach(r, row);
	return E_OK;
}

struct ram_row *
ram_insert(struct ram_store *r, enum ram_kind kind, const uint8_t *blob, size_t bytes)
{
	struct ram_row *row = ram_new(r, kind, blob, bytes);

	return row != NULL && ram_link(r, row) == E_OK ? row : NULL;
}

enum err
ram_remove(struct ram_store *r, struct ram_row *row)
{
	enum err e = note(r, UNDO_REMOVE, row, NULL);

	if (e == E_OK)
		detach(r, row);
	return e;
}

enum err
ram_change(struct ram_store *r, struct ram_row *row)
{
	struct ram_row *before = malloc(row_bytes(row->kind));
	enum err e;

	if (before == NULL)
		return common_fail(&r->c, E_NOMEM, "out of memory");
	memcpy(before, row, row_bytes(row->kind));
	e = note(r, UNDO_CHANGE, row, before);
	if (e != E_OK)
		free(before);
	return e;
}

enum err
ram_change_blob(struct ram_store *r, struct ram_row *row, const uint8_t *blob, size_t bytes)
{
	uint8_t *copy = ram_copy(blob, bytes);
	size_t now = bytes + row_bytes(row->kind);
	enum err e = copy != NULL ? ram_change(r, row) : E_NOMEM;

	if (e != E_OK) {
		free(copy);
		return common_fail(&r->c, E_NOMEM, "out of memory");
	}
	r->log[r->log_count - 1].old_blob = row->blob;
	row->blob = copy;
	r->bytes += now - row->bytes;
	if (row->kind == RAM_JOB)
		r->journal_bytes += now - row->bytes;
	row->bytes = now;
	return E_OK;
}

/* ---- look-up ------------------------------------------------------------ */

struct ram_row *
ram_find(struct ram_store *r, enum ram_kind kind, int64_t id)
{
	const struct ram_index *x = &r->index[RAM_BY_ID];
	struct ram_row *row = x->size > 0 ? *slot_of(x, kind, id) : NULL;

	while (row != NULL && (row->kind != kind || row->id != id))
		row = row->chain[RAM_BY_ID];
	return row;
}

struct ram_row *
ram_after(struct ram_store *r, enum ram_kind kind, int64_t after)
{
	struct ram_row *end = &r->ends[kind], *row = ram_find(r, kind, after);

	/* Who steps through the rows stands on one of them, or before the first. */
	for (row = row != NULL ? row->next : end->next; row != end; row = row->next)
		if (row->id > after)
			return row;
	return NULL;
}

struct ram_row *
ram_notice_of(struct ram_store *r, int64_t job, struct ram_row *after)
{
	const struct ram_index *x = &r->index[RAM_BY_JOB];
	struct ram_row *row = after != NULL ? after->chain[RAM_BY_JOB]
			      : x->size > 0 ? *slot_of(x, RAM_NOTICE, job)
					    : NULL;

	while (row != NULL && row->u.notice.row.job != job)
		row = row->chain[RAM_BY_JOB];
	return row;
}

/* ---- transactions ------------------------------------------------------- */

enum err
ram_begin(struct store *st)
{
	struct ram_store *r = ram_of(st);

	if (r->c.in_txn)
		return common_fail(&r->c, E_STATE, "a transaction is running");
	r->log_count = 0;
	common_begin(&r->c);
	return E_OK;
}

enum err
ram_commit(struct store *st)
{
	struct ram_store *r = ram_of(st);

	if (!r->c.in_txn)
		return common_fail(&r->c, E_STATE, "no transaction is running");
	for (size_t i = 0; i < r->log_count; i++) {
		if (r->log[i].kind == UNDO_REMOVE)
			row_free(r->log[i].row);
		free(r->log[i].before);
		free(r->log[i].old_blob);
	}
	r->log_count = 0;
	common_commit(&r->c);
	return E_OK;
}

/* The row is out of all lists, gets its fields back, and goes where it was. */
static void
undo_change(struct ram_store *r, const struct undo *u)
{
	struct ram_row *row = u->row, *prev = row->prev;

	detach(r, row);
	if (u->old_blob != NULL)
		free(row->blob);
	memcpy(row, u->before, row_bytes(row->kind));
	row->prev = prev;
	attach(r, row);
	free(u->before);
}

void
ram_rollback(struct store *st)
{
	struct ram_store *r = ram_of(st);

	if (!r->c.in_txn)
		return;
	/* Backwards: at each step the neighbours are what they were when it was noted. */
	while (r->log_count > 0) {
		const struct undo *u = &r->log[--r->log_count];

		if (u->kind == UNDO_INSERT) {
			detach(r, u->row);
			row_free(u->row);
		} else if (u->kind == UNDO_REMOVE) {
			attach(r, u->row);
		} else {
			undo_change(r, u);
		}
	}
	common_rollback(&r->c);
}

enum err
ram_own_begin(struct ram_store *r, bool *own)
{
	*own = !r->c.in_txn;
	return *own ? ram_begin(&r->c.base) : E_OK;
}

enum err
ram_own_end(struct ram_store *r, bool own, enum err e)
{
	if (!own)
		return e;
	if (e == E_OK)
		return ram_commit(&r->c.base);
	ram_rollback(&r->c.base);
	return e;
}
