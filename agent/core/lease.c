/*
 * lease.c - the one piece of the store contract that owns memory.
 */
#include <stdlib.h>

#include "agent/core/store.h"

void
lease_free(struct lease *l)
{
	if (l == NULL)
		return;
	free(l->chunk.blob);
	free(l->probe);
	l->chunk.blob = NULL;
	l->probe = NULL;
}
