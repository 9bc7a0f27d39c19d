/*
 * config.c - load, look up, say where a value came from.  Main thread loads;
 * afterwards nothing changes and any thread may read.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/config/config.h"
#include "agent/config/paths.h"
#include "agent/config/source.h"

#define FILE_MAX_BYTES (256u * 1024)
#define DEFAULT_FILE   "/etc/comfymon/comfymon.json"

struct value {
	char *text;
	uint64_t number;
	enum option_origin origin;
	struct position at;
};

struct config {
	struct value values[OPTION_COUNT];
	char *file;
};

const struct option_desc option_table[OPTION_COUNT] = {
#define OPTION(id, key, env, type, def, min, max, text) \
	[OPT_##id] = { key, env, def, text, TYPE_##type, min, max },
#include "agent/config/options.def"
#undef OPTION
};

static enum err
set_value(struct config *c, enum option o, const char *text, enum option_origin origin,
    struct position at, char *why, size_t cap)
{
	struct value *v = &c->values[o];
	uint64_t number = 0;
	enum err rv = E_OK;

	/* An empty variable is as good as none; an empty default is "not set". */
	if (text[0] != '\0')
		rv = config_parse(o, text, &number, why, cap);
	else if (origin != ORIGIN_DEFAULT && origin != ORIGIN_FILE)
		return E_OK;
	if (rv != E_OK)
		return rv;

	char *copy = strdup(text);

	if (copy == NULL) {
		snprintf(why, cap, "out of memory");
		return E_NOMEM;
	}
	free(v->text);
	*v = (struct value){ copy, number, origin, at };
	return E_OK;
}

static int
find_option(const char *key)
{
	for (int o = 0; o < OPTION_COUNT; o++)
		if (strcmp(option_table[o].key, key) == 0)
			return o;
	return -1;
}

/* One leaf of the file; `key` is dotted. */
static enum err
take_leaf(struct config *c, const char *text, const char *key, const json_t *leaf,
    char error[CONFIG_ERROR_BYTES])
{
	struct position at = source_find(text, key);
	char why[200] = "", number[64];
	const char *value = number;
	int o = find_option(key);

	if (o < 0) {
		snprintf(error, CONFIG_ERROR_BYTES, "%s:%d:%d: unknown key \"%.100s\"", c->file,
		    at.line, at.column, key);
		return E_INVAL;
	}
	if (json_is_string(leaf))
		value = json_string_value(leaf);
	else if (json_is_boolean(leaf))
		value = json_is_true(leaf) ? "true" : "false";
	else if (json_is_integer(leaf))
		snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(leaf));
	else if (json_is_real(leaf))
		snprintf(number, sizeof number, "%.17g", json_real_value(leaf));
	else if (json_is_null(leaf))
		return E_OK;
	else
		value = NULL;

	enum err rv = E_INVAL;

	if (value == NULL)
		snprintf(why, sizeof why, "expected a text, a number or true/false");
	else
		rv = set_value(c, (enum option)o, value, ORIGIN_FILE, at, why, sizeof why);
	if (rv != E_OK)
		snprintf(error, CONFIG_ERROR_BYTES, "%s:%d:%d: %.60s: %s", c->file, at.line,
		    at.column, key, why);
	return rv;
}

/* Is there an option in a section of this name? */
static bool
is_section(const char *name)
{
	size_t n = strlen(name);

	for (int o = 0; o < OPTION_COUNT; o++)
		if (strncmp(option_table[o].key, name, n) == 0 && option_table[o].key[n] == '.')
			return true;
	return false;
}

static enum err
take_object(struct config *c, const char *text, const char *prefix, json_t *object,
    char error[CONFIG_ERROR_BYTES])
{
	enum err rv = E_OK;
	const char *name;
	json_t *child;

	json_object_foreach(object, name, child)
	{
		char key[160];

		snprintf(
		    key, sizeof key, "%.70s%s%.70s", prefix, prefix[0] != '\0' ? "." : "", name);
		if (json_is_object(child) && prefix[0] == '\0' && is_section(key))
			rv = take_object(c, text, key, child, error);
		else
			rv = take_leaf(c, text, key, child, error);
		if (rv != E_OK)
			return rv;
	}
	return E_OK;
}

static enum err
take_file(struct config *c, char error[CONFIG_ERROR_BYTES])
{
	json_t *root = NULL;
	json_error_t je;
	char *text = NULL;
	size_t n = 0;
	enum err rv = source_read(c->file, FILE_MAX_BYTES, &text, &n);

	if (rv != E_OK) {
		snprintf(error, CONFIG_ERROR_BYTES, "%.200s: %s", c->file, err_text(rv));
		return rv;
	}
	source_blank_comments(text, n);
	root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
	if (root == NULL) {
		snprintf(error, CONFIG_ERROR_BYTES, "%.120s:%d:%d: %.120s", c->file, je.line,
		    je.column, je.text);
		rv = E_INVAL;
	} else if (!json_is_object(root)) {
		snprintf(error, CONFIG_ERROR_BYTES, "%.200s:1:1: expected an object", c->file);
		rv = E_INVAL;
	} else {
		rv = take_object(c, text, "", root, error);
	}
	json_decref(root);
	free(text);
	return rv;
}

static enum err
take_environment(struct config *c, char error[CONFIG_ERROR_BYTES])
{
	for (int o = 0; o < OPTION_COUNT; o++) {
		const char *name = option_table[o].env;
		const char *text = name != NULL ? getenv(name) : NULL;
		char why[200] = "";

		if (o == OPT_AGENT_PORT && text == NULL)
			text = getenv("DD_AGENT_PORT");
		if (text == NULL)
			continue;
		if (set_value(c, (enum option)o, text, ORIGIN_ENVIRONMENT,
			(struct position){ 0, 0 }, why, sizeof why) != E_OK) {
			snprintf(error, CONFIG_ERROR_BYTES, "environment %s: %s", name, why);
			return E_INVAL;
		}
	}
	return E_OK;
}

static enum err
take_set(struct config *c, const char *set, char error[CONFIG_ERROR_BYTES])
{
	const char *eq = strchr(set, '=');
	char key[100], why[200] = "";

	if (eq == NULL || (size_t)(eq - set) >= sizeof key) {
		snprintf(error, CONFIG_ERROR_BYTES,
		    "command line: expected key=value, got \"%.60s\"", set);
		return E_INVAL;
	}
	memcpy(key, set, (size_t)(eq - set));
	key[eq - set] = '\0';

	int o = find_option(key);

	if (o < 0) {
		snprintf(error, CONFIG_ERROR_BYTES, "command line: unknown key \"%.90s\"", key);
		return E_INVAL;
	}
	if (set_value(c, (enum option)o, eq + 1, ORIGIN_COMMAND_LINE, (struct position){ 0, 0 },
		why, sizeof why) != E_OK) {
		snprintf(error, CONFIG_ERROR_BYTES, "command line: %s: %s", key, why);
		return E_INVAL;
	}
	return E_OK;
}

/* Values that depend on the machine: directories. */
static enum err
take_computed(struct config *c, char error[CONFIG_ERROR_BYTES])
{
	char path[512], why[200] = "";

	if (c->values[OPT_RUN_DIR].text[0] == '\0') {
		paths_run_dir(path, sizeof path);
		if (set_value(c, OPT_RUN_DIR, path, ORIGIN_DEFAULT, (struct position){ 0, 0 }, why,
			sizeof why) != E_OK)
			goto bad;
	}
	if (c->values[OPT_DATA_DIR].text[0] == '\0') {
		paths_data_dir(path, sizeof path);
		if (set_value(c, OPT_DATA_DIR, path, ORIGIN_DEFAULT, (struct position){ 0, 0 }, why,
			sizeof why) != E_OK)
			goto bad;
	}
	if (c->values[OPT_CA_FILE].text[0] == '\0') {
		paths_ca_file(path, sizeof path);
		if (set_value(c, OPT_CA_FILE, path, ORIGIN_DEFAULT, (struct position){ 0, 0 }, why,
			sizeof why) != E_OK)
			goto bad;
	}
	return E_OK;
bad:
	snprintf(error, CONFIG_ERROR_BYTES, "%s", why);
	return E_NOMEM;
}

static enum err
choose_file(struct config *c, const char *file)
{
	const char *env = getenv("COMFYMON_CONFIG");

	if (file == NULL && env != NULL && env[0] != '\0')
		file = env;
	if (file == NULL && access(DEFAULT_FILE, R_OK) == 0)
		file = DEFAULT_FILE;
	c->file = strdup(file != NULL ? file : "");
	return c->file != NULL ? E_OK : E_NOMEM;
}

enum err
config_load(const char *file, const char *const *sets, size_t set_count, struct config **out,
    char error[CONFIG_ERROR_BYTES])
{
	struct config *c = calloc(1, sizeof *c);
	enum err rv = E_NOMEM;

	error[0] = '\0';
	if (c == NULL)
		return E_NOMEM;
	for (int o = 0; o < OPTION_COUNT; o++) {
		rv = set_value(c, (enum option)o, option_table[o].def, ORIGIN_DEFAULT,
		    (struct position){ 0, 0 }, error, CONFIG_ERROR_BYTES);
		if (rv != E_OK)
			goto out;
	}
	rv = choose_file(c, file);
	if (rv == E_OK && c->file[0] != '\0')
		rv = take_file(c, error);
	if (rv == E_OK)
		rv = take_environment(c, error);
	for (size_t i = 0; rv == E_OK && i < set_count; i++)
		rv = take_set(c, sets[i], error);
	if (rv == E_OK)
		rv = take_computed(c, error);
out:
	if (rv == E_OK)
		*out = c;
	else
		config_free(c);
	return rv;
}

void
config_free(struct config *c)
{
	if (c == NULL)
		return;
	for (int o = 0; o < OPTION_COUNT; o++)
		free(c->values[o].text);
	free(c->file);
	free(c);
}

const char *
config_string(const struct config *c, enum option o)
{
	return c->values[o].text;
}

uint64_t
config_number(const struct config *c, enum option o)
{
	return c->values[o].number;
}

bool
config_is_set(const struct config *c, enum option o)
{
	return c->values[o].origin != ORIGIN_DEFAULT;
}

enum option_origin
config_origin(const struct config *c, enum option o)
{
	return c->values[o].origin;
}

const char *
config_origin_text(const struct config *c, enum option o, char *buf, size_t cap)
{
	const struct value *v = &c->values[o];

	switch (v->origin) {
	case ORIGIN_DEFAULT:
		snprintf(buf, cap, "default");
		break;
	case ORIGIN_FILE:
		snprintf(buf, cap, "file %s:%d:%d", c->file, v->at.line, v->at.column);
		break;
	case ORIGIN_ENVIRONMENT:
		snprintf(buf, cap, "environment %s", option_table[o].env);
		break;
	case ORIGIN_COMMAND_LINE:
		snprintf(buf, cap, "command line");
		break;
	}
	return buf;
}

const char *
config_file(const struct config *c)
{
	return c->file;
}

bool
config_mentions_datadog(const struct config *c)
{
	for (int o = 0; o < OPTION_COUNT; o++) {
		const char *env = option_table[o].env;

		if (config_is_set(c, (enum option)o) && env != NULL && strncmp(env, "DD_", 3) == 0)
			return true;
	}
	return getenv("DD_API_KEY") != NULL || getenv("DD_SITE") != NULL;
}
