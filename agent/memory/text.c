/*
 * text.c - see text.h.
 */
#include "agent/memory/text.h"

#include <string.h>

/* Digits at p, as a number; NULL when there are none or too many. */
static const char *
digits(const char *p, uint64_t *out)
{
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return NULL;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (v > (UINT64_MAX - 9) / 10)
			return NULL;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	*out = v;
	return p;
}

static const char *
skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t')
		p++;
	return p;
}

/* One way through "Key:  value" lines: each key is compared where a line begins. */
struct wanted {
	const char *key;
	uint64_t *bytes; /* of a value in kB */
};

/* Behind "Key:", or NULL. */
static const char *
behind_key(const char *line, const char *key)
{
	size_t n = strlen(key);

	return strncmp(line, key, n) == 0 && line[n] == ':' ? skip_blanks(line + n + 1) : NULL;
}

static unsigned
take_kilobytes(const char *line, const struct wanted *wanted, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const char *p = behind_key(line, wanted[i].key);
		uint64_t v;

		if (p == NULL)
			continue;
		p = digits(p, &v);
		if (p == NULL || strncmp(p, " kB", 3) != 0 || v > UINT64_MAX / 1024)
			return 0;
		*wanted[i].bytes = v * 1024;
		return 1u << i;
	}
	return 0;
}

static const char *
next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end != NULL ? end + 1 : line + strlen(line);
}

bool
text_status(const char *text, struct status_text *out)
{
	const struct wanted wanted[] = { { "VmRSS", &out->rss_bytes },
		{ "VmHWM", &out->peak_bytes }, { "RssAnon", &out->anon_bytes },
		{ "RssFile", &out->file_bytes }, { "RssShmem", &out->shmem_bytes },
		{ "VmSwap", &out->swap_bytes } };
	unsigned seen = 0;

	for (const char *line = text; *line != '\0'; line = next_line(line)) {
		const char *p;
		uint64_t v;

		/* A process may choose its own name, on the first line, but no line break in it. */
		if ((p = behind_key(line, "State")) != NULL)
			out->state = *p;
		else if ((p = behind_key(line, "Threads")) != NULL) {
			if (digits(p, &v) != NULL && v <= UINT32_MAX)
				out->threads = (uint32_t)v;
		} else {
			seen |= take_kilobytes(line, wanted, sizeof wanted / sizeof wanted[0]);
		}
	}
	return (seen & 1) != 0;
}

bool
text_stat(const char *text, struct stat_text *out)
{
	const char *p = strrchr(text, ')'); /* a name may hold anything */
	struct stat_text found = { .state = '\0' };
	uint64_t v;

	if (p == NULL || p[1] != ' ' || p[2] == '\0' || p[3] != ' ')
		return false;
	found.state = p[2];
	p += 4;
	for (unsigned field = 4; field <= 22; field++) {
		/* some may be negative, those that we want are not */
		if (*p == '-' && field != 12 && field != 22)
			p++;
		if ((p = digits(p, &v)) == NULL)
			return false;
		if (field == 12)
			found.major_faults = v;
		if (field == 22)
			found.start_ticks = v;
		if (*p != ' ' && !(field == 22 && *p == '\n'))
			return false;
		p++;
	}
	*out = found;
	return true;
}

bool
text_meminfo(const char *text, struct host_text *out)
{
	const struct wanted wanted[] = { { "MemTotal", &out->total_bytes },
		{ "MemAvailable", &out->available_bytes }, { "SwapTotal", &out->swap_total_bytes },
		{ "SwapFree", &out->swap_free_bytes } };
	unsigned seen = 0;

	for (const char *line = text; *line != '\0' && seen != 15; line = next_line(line))
		seen |= take_kilobytes(line, wanted, sizeof wanted / sizeof wanted[0]);
	return (seen & 3) == 3;
}

/* "some avg10=1.25 ..." */
static bool
average(const char *line, const char *kind, uint32_t *x100)
{
	size_t n = strlen(kind);
	uint64_t whole, part;
	const char *p;

	if (strncmp(line, kind, n) != 0 || strncmp(line + n, " avg10=", 7) != 0)
		return false;
	p = digits(line + n + 7, &whole);
	if (p == NULL || *p != '.' || whole > 100 || p[1] < '0' || p[1] > '9' || p[2] < '0' ||
	    p[2] > '9')
		return false;
	part = (uint64_t)(p[1] - '0') * 10 + (uint64_t)(p[2] - '0');
	*x100 = (uint32_t)(whole * 100 + part);
	return true;
}

bool
text_pressure(const char *text, struct pressure_text *out)
{
	bool some = false;

	for (const char *line = text; *line != '\0'; line = next_line(line)) {
		some |= average(line, "some", &out->some_x100);
		(void)average(line, "full", &out->full_x100);
	}
	return some;
}

bool
text_pss(const char *text, uint64_t *bytes)
{
	const struct wanted wanted = { "Pss", bytes };

	for (const char *line = text; *line != '\0'; line = next_line(line))
		if (take_kilobytes(line, &wanted, 1) != 0)
			return true;
	return false;
}

bool
text_value(const char *text, uint64_t *out)
{
	uint64_t v;
	const char *p = digits(text, &v);

	if (p == NULL || (*p != '\0' && *p != '\n'))
		return false;
	*out = v;
	return true;
}
