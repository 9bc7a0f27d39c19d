/*
 * job_blob.c - a job as bytes.  Little-endian: u16 how many numbers, u16 how
 * many texts, the boot id, the numbers (u64 each), the texts (u16 length, bytes).
 * Later versions append numbers and texts; who knows fewer skips them, who
 * knows more finds them 0 and "".  Pure.
 */
#include "agent/store/common.h"

#define NUMBERS 15u
#define TEXTS   9u

struct text {
	char *at;
	size_t cap;
};

static void
texts_of(struct job_row *j, struct text out[TEXTS])
{
	const struct text t[TEXTS] = {
		{ j->prompt_id, sizeof j->prompt_id },
		{ j->reason, sizeof j->reason },
		{ j->certainty, sizeof j->certainty },
		{ j->node_id, sizeof j->node_id },
		{ j->node_class, sizeof j->node_class },
		{ j->error_type, sizeof j->error_type },
		{ j->workflow, sizeof j->workflow },
		{ j->death, sizeof j->death },
		{ j->body, sizeof j->body },
	};

	memcpy(out, t, sizeof t);
}

size_t
job_encode(uint8_t p[JOB_BLOB_MAX], const struct job_row *j)
{
	const uint64_t numbers[NUMBERS] = { j->trace_hi, j->trace_lo, j->wait_span, j->run_span,
		(uint64_t)j->item, (uint64_t)(int64_t)j->signal, j->device_error, j->queued_real_ns,
		j->started_real_ns, j->ended_real_ns, j->peak_rss_bytes, j->nodes, j->executed,
		j->cached, j->thread };
	struct job_row copy = *j;
	struct text texts[TEXTS];
	size_t at = 4;

	texts_of(&copy, texts);
	wire_put16(p, NUMBERS);
	wire_put16(p + 2, TEXTS);
	memcpy(p + at, j->boot_id, sizeof j->boot_id);
	at += sizeof j->boot_id;
	for (size_t i = 0; i < NUMBERS; i++, at += 8)
		wire_put64(p + at, numbers[i]);
	for (size_t i = 0; i < TEXTS; i++) {
		size_t n = strnlen(texts[i].at, texts[i].cap - 1);

		wire_put16(p + at, (uint16_t)n);
		memcpy(p + at + 2, texts[i].at, n);
		at += 2 + n;
	}
	return at;
}

enum err
job_decode(const uint8_t *p, size_t n, struct job_row *j)
{
	uint64_t v[NUMBERS] = { 0 };
	struct text texts[TEXTS];
	size_t at = 4 + sizeof j->boot_id, numbers, count;

	if (n < at)
		return E_CORRUPT;
	numbers = wire_get16(p);
	count = wire_get16(p + 2);
	if ((n - at) / 8 < numbers)
		return E_CORRUPT;
	memset(j, 0, sizeof *j);
	memcpy(j->boot_id, p + 4, sizeof j->boot_id);
	for (size_t i = 0; i < numbers; i++, at += 8)
		if (i < NUMBERS)
			v[i] = wire_get64(p + at);
	texts_of(j, texts);
	for (size_t i = 0; i < count; i++) {
		size_t bytes;

		if (n - at < 2 || n - at - 2 < (bytes = wire_get16(p + at)))
			return E_CORRUPT;
		at += 2;
		if (i < TEXTS)
			memcpy(
			    texts[i].at, p + at, bytes < texts[i].cap ? bytes : texts[i].cap - 1);
		at += bytes;
	}
	j->trace_hi = v[0];
	j->trace_lo = v[1];
	j->wait_span = v[2];
	j->run_span = v[3];
	j->item = (int64_t)v[4];
	j->signal = (int32_t)(int64_t)v[5];
	j->device_error = v[6] != 0;
	j->queued_real_ns = v[7];
	j->started_real_ns = v[8];
	j->ended_real_ns = v[9];
	j->peak_rss_bytes = v[10];
	j->nodes = (uint32_t)v[11];
	j->executed = (uint32_t)v[12];
	j->cached = (uint32_t)v[13];
	j->thread = v[14];
	return E_OK;
}

bool
job_wanted(const struct job_filter *f, const struct job_row *j)
{
	return (f->states == 0 || (f->states & 1u << j->state) != 0) &&
	       j->queued_real_ns >= f->since_real_ns && (f->probe == 0 || f->probe == j->probe) &&
	       (f->prompt_id == NULL ||
		   (f->prompt_begins
			   ? strncmp(f->prompt_id, j->prompt_id, strlen(f->prompt_id)) == 0
			   : strcmp(f->prompt_id, j->prompt_id) == 0));
}
