/*
 * fuzz_traceparent.c - seven header values, separated by newlines, into the extractor and back.
 * rooms: probe_python
 */
#include <stdlib.h>
#include <string.h>

#include "probe/python/propagation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *values[7] = { NULL };
	char *text = malloc(size + 1), parent[56], state[PROPAGATION_STATE_BYTES], *rest = text;
	struct propagation p;
	if (text == NULL)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	for (int i = 0; i < 7 && rest != NULL; i++)
		values[i] = strsep(&rest, "\n");
	struct propagation_headers h = { values[0], values[1], values[2], values[3], values[4],
		values[5], values[6] };
	if (propagation_extract(&h, PROPAGATION_DEFAULT, &p)) {
		propagation_traceparent(&p, parent);
		if (p.trace_lo == 0 || propagation_tracestate(&p, state) != strlen(state))
			abort();
	}
	free(text);
	return 0;
}
