/*
 * fuzz_ring.c - any bytes as the ring file of a dead process.  rooms: receiver base schema
 *
 * Whatever the file says, salvage ends, and each batch it makes passes the full
 * check and follows the one before.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent/core/salvage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static enum err
emit(void *ctx, const uint8_t *body, size_t bytes)
{
	uint64_t *end = ctx;
	struct wire_batch b;
	struct wire_error err;

	if (wire_batch_check(body, bytes, &b, &err) != 0) {
		fprintf(stderr, "%s at %zu\n", err.what, err.at);
		abort();
	}
	if (b.first < *end)
		abort();
	*end = b.end;
	return E_OK;
}

/* A right crc over the header, so that what lies behind it is reached. */
static void
put_crc(uint8_t *p, size_t n)
{
	uint32_t attrs, crc;

	if (n < RING_HEADER_BYTES)
		return;
	memcpy(p, RING_MAGIC, 8);
	wire_put32(p + 8, RING_VERSION);
	attrs = wire_get32(p + RING_OFF_ATTRS_BYTES) % (FRAME_ATTRS_MAX_BYTES + 1);
	wire_put32(p + RING_OFF_ATTRS_BYTES, attrs);
	crc = wire_crc32c(0, p, RING_OFF_CRC);
	wire_put32(p + RING_OFF_CRC, wire_crc32c(crc, p + RING_OFF_ATTRS, attrs));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct salvage_evidence nothing = { .signal = 0 };
	struct salvage_counts counts = { .batches = 0 };
	static char path[64];
	struct salvage *s;
	uint64_t end = 0;
	uint8_t *p;
	int fd;

	if (n == 0 || n > 1 << 20 || (p = malloc(n)) == NULL)
		return 0;
	if (path[0] == '\0')
		snprintf(path, sizeof path, "/dev/shm/fuzz-ring-%d", (int)getpid());
	memcpy(p, data, n);
	put_crc(p, n);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
	if (salvage_open(path, &s) == E_OK) {
		if (salvage_read(s, 0, 0, 0, &nothing, emit, &end, &counts) != E_OK)
			abort();
		salvage_free(s);
	}
	unlink(path);
	free(p);
	return 0;
}
