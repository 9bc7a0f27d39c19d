/*
 * hooks.c - what became of a probe's hooks, as it told: for status and doctor.
 * In memory only, since its records leave no row: a probe tells again whenever it
 * has greeted.  Pipeline's thread.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/processor/internal.h"

#define HOOKS_MAX 192u /* of a probe; those beyond are not remembered */

enum hook_state {
	HOOK_ATTACHED = 0,
	HOOK_DETACHED = 3
}; /* of events.def; others: missing, of unknown shape */

struct hooks {
	uint32_t count;
	struct {
		char name[PROCESSOR_HOOK_BYTES];
		uint32_t state;
	} row[HOOKS_MAX];
};

/* Memory is short: then it is not known. */
void
hooks_take(struct probe *probe, const uint8_t *payload, size_t n)
{
	char name[PROCESSOR_HOOK_BYTES];
	uint32_t bytes = 0, i = 0;

	if (n < 8)
		return;

	const char *s = dict_get(&probe->dict, wire_get32(payload), &bytes);

	if (probe->hooks == NULL)
		probe->hooks = calloc(1, sizeof *probe->hooks);
	if (probe->hooks == NULL || bytes == 0)
		return;
	if (bytes >= sizeof name)
		bytes = sizeof name - 1;
	memcpy(name, s, bytes);
	name[bytes] = '\0';
	while (i < probe->hooks->count && strcmp(probe->hooks->row[i].name, name) != 0)
		i++;
	if (i == HOOKS_MAX)
		return;
	if (i == probe->hooks->count)
		memcpy(probe->hooks->row[probe->hooks->count++].name, name, sizeof name);
	probe->hooks->row[i].state = wire_get32(payload + 4);
}

void
hooks_free(struct hooks *h)
{
	free(h);
}

bool
processor_hooks(const struct processor *p, int64_t id, struct processor_hooks *out)
{
	const struct probe *probe = p->probes;

	memset(out, 0, sizeof *out);
	while (probe != NULL && probe->id != id)
		probe = probe->next;
	if (probe == NULL || probe->hooks == NULL)
		return false;
	for (uint32_t i = 0; i < probe->hooks->count; i++) {
		uint32_t state = probe->hooks->row[i].state;

		out->attached += state == HOOK_ATTACHED;
		if (state == HOOK_ATTACHED || state == HOOK_DETACHED)
			continue;
		if (out->missing < PROCESSOR_HOOK_NAMES)
			memcpy(out->names[out->missing], probe->hooks->row[i].name,
			    PROCESSOR_HOOK_BYTES);
		out->missing++;
	}
	return true;
}
