/*
 * crc32c.c - CRC-32C (Castagnoli, reflected 0x82f63b78), by the processor's
 * instruction where it has one.  Any thread; the table is made by a
 * constructor before main and only read afterwards.
 */
#include "schema/wire.h"

static uint32_t table[256];

__attribute__((constructor)) static void
make_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = (c >> 1) ^ (0x82f63b78u & (0u - (c & 1)));
		table[i] = c;
	}
}

static uint32_t
by_table(uint32_t crc, const uint8_t *p, size_t n)
{
	while (n-- > 0)
		crc = (crc >> 8) ^ table[(crc ^ *p++) & 0xff];
	return crc;
}

#if defined(__x86_64__)
/*
 * The instruction takes three cycles but starts one each cycle: three blocks
 * side by side, put together as if each were followed by zeros.  after_zeros
 * says what BLOCK zero bytes make of a crc, byte by byte of it.
 */
#define BLOCK 2048u

static uint32_t after_zeros[4][256];

__attribute__((target("sse4.2"), constructor)) static void
make_after_zeros(void)
{
	if (!__builtin_cpu_supports("sse4.2"))
		return;
	for (unsigned bit = 0; bit < 32; bit++) {
		uint64_t c = (uint32_t)1 << bit;

		for (unsigned i = 0; i < BLOCK / 8; i++)
			c = __builtin_ia32_crc32di(c, 0);
		/* linear: an entry is the sum of its bits */
		for (unsigned v = 1u << bit % 8; v < 256; v++)
			if ((v >> bit % 8 & 1) != 0)
				after_zeros[bit / 8][v] ^= (uint32_t)c;
	}
}

static inline uint32_t
pass_zeros(uint32_t c)
{
	return after_zeros[0][c & 0xff] ^ after_zeros[1][c >> 8 & 0xff] ^
	       after_zeros[2][c >> 16 & 0xff] ^ after_zeros[3][c >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t
three_blocks(uint32_t crc, const uint8_t *p)
{
	uint64_t a = crc, b = 0, c = 0;

	for (unsigned i = 0; i < BLOCK; i += 8) {
		a = __builtin_ia32_crc32di(a, wire_get64(p + i));
		b = __builtin_ia32_crc32di(b, wire_get64(p + BLOCK + i));
		c = __builtin_ia32_crc32di(c, wire_get64(p + 2 * BLOCK + i));
	}
	return pass_zeros(pass_zeros((uint32_t)a) ^ (uint32_t)b) ^ (uint32_t)c;
}

__attribute__((target("sse4.2"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t n)
{
	uint64_t c;

	for (; n >= 3 * BLOCK; n -= 3 * BLOCK, p += 3 * BLOCK)
		crc = three_blocks(crc, p);
	c = crc;
	for (; n >= 8; n -= 8, p += 8)
		c = __builtin_ia32_crc32di(c, wire_get64(p));
	crc = (uint32_t)c;
	while (n-- > 0)
		crc = __builtin_ia32_crc32qi(crc, *p++);
	return crc;
}
#endif

uint32_t
wire_crc32c(uint32_t crc, const void *data, size_t n)
{
#if defined(__x86_64__)
	if (__builtin_cpu_supports("sse4.2"))
		return ~by_instruction(~crc, data, n);
#endif
	return ~by_table(~crc, data, n);
}
