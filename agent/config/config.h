/*
 * config.h - the options of options.def with their values and where each came
 * from.  Precedence: command line, environment, file, default.  Loaded once on
 * the main thread, then read-only: any thread may read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

enum option {
#define OPTION(id, key, env, type, def, min, max, text) OPT_##id,
#include "agent/config/options.def"
#undef OPTION
	OPTION_COUNT
};

enum option_type {
	TYPE_STRING,
	TYPE_SECRET,
	TYPE_BOOL,
	TYPE_COUNT,
	TYPE_SIZE,
	TYPE_DURATION,
	TYPE_RATE,
	TYPE_JSON
};
enum option_origin { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENVIRONMENT, ORIGIN_COMMAND_LINE };

struct option_desc {
	const char *key, *env, *def, *text;
	enum option_type type;
	uint64_t min, max;
};
extern const struct option_desc option_table[OPTION_COUNT];

struct config;

/* What was wrong: "comfymon.json:12:5: store.cap: ...". */
#define CONFIG_ERROR_BYTES 320

/*
 * Defaults, then the file (NULL: $COMFYMON_CONFIG, else /etc/comfymon/comfymon.json
 * if there, else none), then the environment, then `sets`, an array of
 * "key=value".  E_INVAL and a text in error[] for an unknown key or a bad value;
 * every problem is reported through config_problems, error[] has the first.
 */
MUST_CHECK enum err config_load(const char *file, const char *const *sets, size_t set_count,
    struct config **out, char error[CONFIG_ERROR_BYTES]);
void config_free(struct config *c);

const char *config_string(const struct config *c, enum option o);
/* COUNT, SIZE (bytes), DURATION (ms), BOOL (0 or 1). */
uint64_t config_number(const struct config *c, enum option o);
bool config_is_set(const struct config *c, enum option o); /* not its default */
enum option_origin config_origin(const struct config *c, enum option o);
/* "environment DD_SERVICE", "file /etc/x.json:3:5", "default", "command line". */
const char *config_origin_text(const struct config *c, enum option o, char *buf, size_t cap);
/* The file that was read, "" for none. */
const char *config_file(const struct config *c);

/* Is anything of Datadog's set by file or environment?  (Decides local or offline.) */
bool config_mentions_datadog(const struct config *c);

/* The words that an option takes, separated by a space; NULL: any text. */
const char *config_choices(enum option o);

/* Parse one value as the type would; E_INVAL with why[] = what was expected. */
MUST_CHECK enum err config_parse(
    enum option o, const char *text, uint64_t *number, char *why, size_t cap);

/* "64 MiB", "1.5 GiB" / "7d": for people. */
const char *config_size_text(uint64_t bytes, char *buf, size_t cap);
const char *config_duration_text(uint64_t ms, char *buf, size_t cap);

/* JSON Schema of the file, and the commented default file, as text on a stream (FILE *). */
void config_print_schema(void *file);
void config_print_default(void *file);
