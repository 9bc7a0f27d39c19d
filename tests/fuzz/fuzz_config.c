/*
 * fuzz_config.c - any bytes as a configuration file, as "key=value", and as the
 * value of each option.  rooms: config base schema
 *
 * A refusal has a text; what was accepted can be read back and is in its range.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agent/config/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
judge(enum err e, struct config *c, const char *error)
{
	char origin[512];

	if (e != E_OK) {
		if (error[0] == '\0' || strlen(error) >= CONFIG_ERROR_BYTES)
			abort();
		return;
	}
	for (int o = 0; o < OPTION_COUNT; o++) {
		uint64_t v = config_number(c, (enum option)o);
		const struct option_desc *d = &option_table[o];

		if (config_origin_text(c, (enum option)o, origin, sizeof origin)[0] == '\0')
			abort();
		if (config_string(c, (enum option)o)[0] != '\0' && d->type != TYPE_RATE &&
		    ((d->min != 0 && v < d->min) || (d->max != 0 && v > d->max)))
			abort();
	}
	config_free(c);
}

static void
as_file(const uint8_t *data, size_t n)
{
	char path[64], error[CONFIG_ERROR_BYTES] = "";
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	struct config *c = NULL;

	if (fd < 0 || write(fd, data, n) != (ssize_t)n)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	judge(config_load(path, NULL, 0, &c, error), c, error);
	close(fd);
}

static void
as_values(const char *text)
{
	char error[CONFIG_ERROR_BYTES] = "", why[64], size[32];
	const char *sets[] = { text };
	struct config *c = NULL;

	judge(config_load("", sets, 1, &c, error), c, error);
	for (int o = 0; o < OPTION_COUNT; o++) {
		uint64_t v = 0;

		why[0] = '\0';
		if (config_parse((enum option)o, text, &v, why, sizeof why) != E_OK &&
		    why[0] == '\0')
			abort();
		(void)config_size_text(v, size, sizeof size);
		(void)config_duration_text(v, size, sizeof size);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *text;

	if (n == 0)
		return 0;
	if (data[0] & 1) {
		as_file(data + 1, n - 1);
		return 0;
	}
	text = malloc(n);
	memcpy(text, data + 1, n - 1);
	text[n - 1] = '\0';
	as_values(text);
	free(text);
	return 0;
}
