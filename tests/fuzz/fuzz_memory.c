/*
 * fuzz_memory.c - any bytes as the minutes that an earlier agent kept.
 * rooms: memory processor core base schema
 *
 * Checksums are put right and times brought into the last day, but for records
 * whose first byte is odd.  Whatever is read back can be drawn.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/memory/memory.h"
#include "schema/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define RECORD_BYTES 144u /* see agent/memory/keep.c */

static char dir[64], path[80];

static void
end(void)
{
	unlink(path);
	rmdir(dir);
}

static void
begin(void)
{
	snprintf(dir, sizeof dir, "/dev/shm/fuzz-memory-%d", (int)getpid());
	snprintf(path, sizeof path, "%s/memory", dir);
	if (mkdir(dir, 0700) != 0)
		abort();
	atexit(end);
}

static void
mend(uint8_t *p)
{
	uint64_t back = wire_get64(p + 32) % (25 * 3600 * NS_PER_S);

	if (p[0] & 1)
		return;
	memcpy(p, "CMM1", 4);
	wire_put64(p + 32, clock_real_ns() - back);
	wire_put32(p + 4, wire_crc32c(0, p + 8, RECORD_BYTES - 8));
}

static void
draw(struct memory *m, uint32_t points)
{
	const struct memory_query q = { .points = points };
	struct outbuf out = { 0 };

	if (memory_view(m, &q, &out) != E_OK || out.n < 2 || out.p[out.n - 1] != '}' ||
	    memchr(out.p, '\0', out.n) != NULL)
		abort();
	outbuf_free(&out);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const struct memory_options o = { .data_dir = dir, .proc_dir = dir, .sys_dir = dir };
	static struct memory_now now;
	struct memory_peak peak;
	struct memory *m;
	uint8_t *p;
	int fd;

	if (n == 0)
		return 0;
	if (dir[0] == '\0')
		begin();
	p = malloc(n);
	memcpy(p, data, n);
	for (size_t at = 0; at + RECORD_BYTES <= n; at += RECORD_BYTES)
		mend(p + at);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, p, n) != (ssize_t)n)
		abort();
	close(fd);
	if (memory_new(&o, &m) != E_OK)
		abort();
	memory_now(m, &now);
	draw(m, 1 + n % 500);
	if (n >= 32)
		(void)memory_peak(m, wire_get64(p + 16), wire_get64(p + 24), 0, INT64_MAX, &peak);
	memory_free(m);
	free(p);
	return 0;
}
