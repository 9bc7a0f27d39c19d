/*
 * fuzz_http_reply.c - any bytes as what a far end says: status, Retry-After,
 * headers and body.  rooms: exporter processor core base schema
 */
#include <stdlib.h>
#include <string.h>

#include "agent/core/process.h"
#include "agent/exporter/reply.h"
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

/* In pieces as they may come; what is kept stays within its limits. */
static void
take(const uint8_t *data, size_t n)
{
	static struct reply r;
	size_t keep = n > 0 ? data[0] : 0, piece = 1 + (n > 1 ? data[1] % 64u : 0);
	bool more = true;

	reply_begin(&r, keep, 4096);
	for (size_t at = 0; more && at < n; at += piece) {
		size_t m = n - at < piece ? n - at : piece;
		char *p = malloc(m); /* so that a byte too far is seen */

		memcpy(p, data + at, m);
		more = reply_take_header(p, 1, m, &r) == m && reply_take_body(p, m, 1, &r) == m;
		free(p);
	}
	if (r.body.n > keep || more == reply_endless(&r) ||
	    memchr(r.retry_after, '\0', sizeof r.retry_after) == NULL)
		abort();
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
	take(data, n);
	(void)processor_agent_rates(the_processor(), (const char *)data, n);
	return 0;
}
