/*
 * ram_rows.c - rows of the volatile store and their undo log.  The owner's
 * thread only.
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
	r->log[r->log_count++] = (struct undo){ kind, row, before };
	return E_OK;
}

static void
row_free(struct ram_row *row)
{
	free(row->blob);
	free(row);
}

struct ram_row *
ram_insert(struct ram_store *r, enum ram_kind kind, const uint8_t *blob, size_t bytes)
{
	struct ram_row *row = calloc(1, sizeof *row), *end = &r->ends[kind];

	if (row != NULL)
		row->blob = ram_copy(blob, bytes);
	if (row == NULL || row->blob == NULL || note(r, UNDO_INSERT, row, NULL) != E_OK) {
		if (row != NULL)
			row_free(row);
		common_fail(&r->c, E_NOMEM, "out of memory");
		return NULL;
	}
	row->kind = kind;
	row->id = ++r->last[kind];
	row->bytes = bytes + sizeof *row;
	row->prev = end->prev;
	row->next = end;
	row->prev->next = row->next->prev = row;
	r->bytes += row->bytes;
	return row;
}

enum err
ram_remove(struct ram_store *r, struct ram_row *row)
{
	enum err e = note(r, UNDO_REMOVE, row, NULL);

	if (e != E_OK)
		return e;
	row->prev->next = row->next;
	row->next->prev = row->prev;
	r->bytes -= row->bytes;
	return E_OK;
}

enum err
ram_change(struct ram_store *r, struct ram_row *row)
{
	struct ram_row *before = malloc(sizeof *before);
	enum err e;

	if (before == NULL)
		return common_fail(&r->c, E_NOMEM, "out of memory");
	*before = *row;
	e = note(r, UNDO_CHANGE, row, before);
	if (e != E_OK)
		free(before);
	return e;
}

struct ram_row *
ram_after(struct ram_store *r, enum ram_kind kind, int64_t after)
{
	struct ram_row *end = &r->ends[kind];

	for (struct ram_row *row = end->next; row != end; row = row->next)
		if (row->id > after)
			return row;
	return NULL;
}

struct ram_row *
ram_find(struct ram_store *r, enum ram_kind kind, int64_t id)
{
	struct ram_row *row = ram_after(r, kind, id - 1);

	return row != NULL && row->id == id ? row : NULL;
}

enum err
ram_begin(struct store *st)
{
	struct ram_store *r = ram_of(st);

	if (r->c.in_txn)
		return common_fail(&r->c, E_STATE, "a transaction is running");
	r->log_count = 0;
	r->bytes_saved = r->bytes;
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
	}
	r->log_count = 0;
	common_commit(&r->c);
	return E_OK;
}

/* Take back one change. Links of a row are not part of a CHANGE: they are as they were by then. */
static void
undo_one(const struct undo *u)
{
	struct ram_row *row = u->row, *prev = row->prev, *next = row->next;

	switch (u->kind) {
	case UNDO_INSERT:
		prev->next = next;
		next->prev = prev;
		row_free(row);
		break;
	case UNDO_REMOVE:
		prev->next = next->prev = row;
		break;
	case UNDO_CHANGE:
		*row = *u->before;
		row->prev = prev;
		row->next = next;
		free(u->before);
		break;
	}
}

void
ram_rollback(struct store *st)
{
	struct ram_store *r = ram_of(st);

	if (!r->c.in_txn)
		return;
	while (r->log_count > 0)
		undo_one(&r->log[--r->log_count]);
	r->bytes = r->bytes_saved;
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
