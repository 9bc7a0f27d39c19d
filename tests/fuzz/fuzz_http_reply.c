/*
 * fuzz_http_reply.c - any bytes as what a far end says: status, Retry-After and
 * body.  rooms: exporter processor core base schema
 */
#include <stdlib.h>
#include <string.h>

#include "agent/core/process.h"
#include "agent/exporter/verdict.h"
#include "schema/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct processor *
the_processor(void)
{
	static struct processor *p;
	const struct processor_options o = { .service = "s", .rate_limit = 1 };

	if (p == NULL && processor_new(&o, &p) != E_OK)
		abort();
	return p;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char header[64];
	uint64_t ms = UINT64_MAX, wait;
	enum verdict v;
	size_t used;
	int status;

	if (n < 4)
		return 0;
	status = wire_get16(data) % 700;
	used = data[2] % sizeof header;
	data += 3;
	n -= 3;
	if (used > n)
		used = n;
	memcpy(header, data, used);
	header[used] = '\0';
	data += used;
	n -= used;

	v = verdict_of(status, (const char *)data, n);
	if (v == VERDICT_SENT && status / 100 != 2)
		abort();
	if (v == VERDICT_REJECT && status / 100 != 4)
		abort();
	if (v == VERDICT_HOLD && verdict_hint(status)[0] == '\0')
		abort(); /* a person must act: on what? */
	if (retry_after_ms(header, 1700000000, &ms) ? ms > RETRY_AFTER_MAX_MS : ms != UINT64_MAX)
		abort();
	wait = backoff_ms(data == NULL || n == 0 ? 0 : data[0], n);
	if (wait < 50 || wait > BACKOFF_MAX_MS)
		abort();
	(void)processor_agent_rates(the_processor(), (const char *)data, n);
	return 0;
}
