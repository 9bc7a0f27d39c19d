/*
 * value.c - text to value and back, by type.  Pure functions.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/config/config.h"

#define ADDRESS_MAX 512 /* with the NUL, as who takes them has room for */
#define SECRET_MAX  256
/* Of ComfyUI, that may cost a life: health_state_name(). */
#define ILLNESSES "zombie http_silent no_progress cuda_poisoned"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit sizes[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", 1024 },
	{ "KB", 1024 },
	{ "KiB", 1024 },
	{ "M", 1024ull * 1024 },
	{ "MB", 1024ull * 1024 },
	{ "MiB", 1024ull * 1024 },
	{ "G", 1024ull * 1024 * 1024 },
	{ "GB", 1024ull * 1024 * 1024 },
	{ "GiB", 1024ull * 1024 * 1024 },
	{ "T", 1024ull * 1024 * 1024 * 1024 },
	{ "TB", 1024ull * 1024 * 1024 * 1024 },
	{ "TiB", 1024ull * 1024 * 1024 * 1024 },
	{ NULL, 0 },
};
static const struct unit durations[] = {
	{ "ms", 1 },
	{ "s", 1000 },
	{ "m", 60 * 1000 },
	{ "h", 3600 * 1000 },
	{ "d", 24 * 3600 * 1000 },
	{ NULL, 0 },
};

static enum err
refuse(char *why, size_t cap, const char *expected, const char *text)
{
	snprintf(why, cap, "expected %s, got \"%.60s\"", expected, text);
	return E_INVAL;
}

static enum err
with_unit(const char *text, const struct unit *units, const char *expected, uint64_t *number,
    char *why, size_t cap)
{
	char *end;

	errno = 0;
	if (!isdigit((unsigned char)text[0]))
		return refuse(why, cap, expected, text);

	double v = strtod(text, &end);

	while (*end == ' ')
		end++;
	if (*end == '\0' && v == 0) { /* of any unit */
		*number = 0;
		return E_OK;
	}
	for (; units->name != NULL; units++) {
		if (strcasecmp(end, units->name) != 0)
			continue;
		v *= (double)units->factor;
		if (errno != 0 || !(v < 9.2e18))
			return refuse(why, cap, "a smaller number", text);
		*number = (uint64_t)v;
		return E_OK;
	}
	return refuse(why, cap, expected, text);
}

static enum err
whole(const char *text, uint64_t *number, char *why, size_t cap)
{
	char *end;

	errno = 0;

	unsigned long long v = strtoull(text, &end, 10);

	if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0)
		return refuse(why, cap, "a whole number", text);
	*number = v;
	return E_OK;
}

static enum err
boolean(const char *text, uint64_t *number, char *why, size_t cap)
{
	static const char *const yes[] = { "1", "true", "yes", "on", NULL };
	static const char *const no[] = { "0", "false", "no", "off", NULL };

	for (int i = 0; yes[i] != NULL; i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*number = strcasecmp(text, yes[i]) == 0;
			return E_OK;
		}
	}
	return refuse(why, cap, "true or false", text);
}

static enum err
rate(const char *text, char *why, size_t cap)
{
	char *end;
	double v = strtod(text, &end);

	if (text[0] != '\0' && (*end != '\0' || !(v >= 0.0 && v <= 1.0)))
		return refuse(why, cap, "a number from 0 to 1", text);
	return E_OK;
}

static enum err
array_text(const char *text, char *why, size_t cap)
{
	json_error_t e;

	if (text[0] == '\0')
		return E_OK;

	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &e);

	if (root == NULL) {
		snprintf(why, cap, "not JSON: %.80s at %d:%d", e.text, e.line, e.column);
		return E_INVAL;
	}

	bool ok = json_is_array(root);

	json_decref(root);
	return ok ? E_OK : refuse(why, cap, "a JSON array", text);
}

const char *
config_choices(enum option o)
{
	switch (o) {
	case OPT_LOG_LEVEL:
		return "error warn info debug";
	case OPT_STORE_KIND:
		return "sqlite ram";
	case OPT_RESTART:
		return "always on-failure never";
	default:
		return NULL;
	}
}

static bool
is_word(const char *list, const char *text, size_t n)
{
	for (const char *p = list; *p != '\0';) {
		size_t m = strcspn(p, " ");

		if (m == n && memcmp(p, text, n) == 0)
			return true;
		p += m + (p[m] == ' ');
	}
	return false;
}

/* One of the option's words, or any text where it has none. */
static enum err
word(enum option o, const char *text, char *why, size_t cap)
{
	const char *list = config_choices(o);

	if (list == NULL || is_word(list, text, strlen(text)))
		return E_OK;
	snprintf(why, cap, "expected one of: %s; got \"%.60s\"", list, text);
	return E_INVAL;
}

/* "none", or some of the words, separated by comma. */
static enum err
words(const char *list, const char *text, char *why, size_t cap)
{
	size_t n;

	if (strcmp(text, "none") == 0)
		return E_OK;
	for (const char *p = text;; p += n + 1) {
		n = strcspn(p, ",");
		if (!is_word(list, p, n))
			break;
		if (p[n] == '\0')
			return E_OK;
	}
	snprintf(
	    why, cap, "expected none, or of: %s, separated by comma; got \"%.60s\"", list, text);
	return E_INVAL;
}

/* "1000,1001": numbers that can be user ids. */
static enum err
user_ids(const char *text, char *why, size_t cap)
{
	const char *p = text;
	char *end;

	do {
		unsigned long v = strtoul(p, &end, 10);

		if (!isdigit((unsigned char)*p) || (*end != ',' && *end != '\0') || v >= UINT32_MAX)
			return refuse(why, cap, "user ids separated by comma", text);
		p = end + 1;
	} while (*end == ',');
	return E_OK;
}

/* Not quoted in the complaint: a key may stand in it. */
static enum err
web_address(const char *text, char *why, size_t cap)
{
	size_t scheme = strncmp(text, "http://", 7) == 0    ? 7
			: strncmp(text, "https://", 8) == 0 ? 8
							    : 0;

	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 127)
			scheme = 0;
	if (scheme > 0 && strcspn(text + scheme, "/?#") > 0 && strlen(text) < ADDRESS_MAX)
		return E_OK;
	snprintf(why, cap, "expected http://host or https://host, at most %d bytes in all",
	    ADDRESS_MAX - 1);
	return E_INVAL;
}

/* Who takes metrics; the port's digits are looked at by who opens it. */
static enum err
statsd_address(const char *text, char *why, size_t cap)
{
	static const char *const schemes[] = { "udp://", "unix:///", "unixgram:///" };

	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
		if (strncmp(text, schemes[i], strlen(schemes[i])) == 0)
			return E_OK;
	return refuse(why, cap, "udp://host:port or unix:///path", text);
}

static enum err
ip_address(const char *text, char *why, size_t cap)
{
	unsigned char a[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, text, a) == 1 || inet_pton(AF_INET6, text, a) == 1)
		return E_OK;
	return refuse(why, cap, "an address such as 0.0.0.0 or ::1", text);
}

static enum err
secret(const char *text, char *why, size_t cap)
{
	if (strlen(text) < SECRET_MAX)
		return E_OK;
	snprintf(why, cap, "expected at most %d bytes", SECRET_MAX - 1);
	return E_INVAL;
}

/* The probe and every verb must find it, wherever each was started. */
static enum err
directory(const char *text, char *why, size_t cap)
{
	if (text[0] == '/')
		return E_OK;
	snprintf(why, cap, "expected an absolute path");
	return E_INVAL;
}

static enum err
text_of(enum option o, const char *text, char *why, size_t cap)
{
	if (text[0] == '\0')
		return word(o, text, why, cap);
	if (o == OPT_RUN_DIR || o == OPT_DATA_DIR)
		return directory(text, why, cap);
	if (o == OPT_ALLOW_UIDS)
		return user_ids(text, why, cap);
	if (o == OPT_HEALTH_RESTART)
		return words(ILLNESSES, text, why, cap);
	if (o == OPT_HEALTH_BIND)
		return ip_address(text, why, cap);
	if (o == OPT_WEBHOOK_URL)
		return web_address(text, why, cap);
	if (o == OPT_METRICS_URL)
		return statsd_address(text, why, cap);
	return word(o, text, why, cap);
}

/* In the option's own unit. */
static const char *
bound_text(const struct option_desc *d, uint64_t v, char *buf, size_t cap)
{
	if (d->type == TYPE_SIZE)
		return config_size_text(v, buf, cap);
	if (d->type == TYPE_DURATION)
		return config_duration_text(v, buf, cap);
	snprintf(buf, cap, "%" PRIu64, v);
	return buf;
}

enum err
config_parse(enum option o, const char *text, uint64_t *number, char *why, size_t cap)
{
	const struct option_desc *d = &option_table[o];
	enum err rv = E_OK;
	uint64_t v = 0;

	switch (d->type) {
	case TYPE_STRING:
		rv = text_of(o, text, why, cap);
		break;
	case TYPE_SECRET:
		rv = secret(text, why, cap);
		break;
	case TYPE_BOOL:
		rv = boolean(text, &v, why, cap);
		break;
	case TYPE_COUNT:
		rv = whole(text, &v, why, cap);
		break;
	case TYPE_SIZE:
		rv = with_unit(text, sizes, "a size such as 64M or 1.5G", &v, why, cap);
		break;
	case TYPE_DURATION:
		rv =
		    with_unit(text, durations, "a duration such as 500ms, 30s or 7d", &v, why, cap);
		break;
	case TYPE_RATE:
		rv = rate(text, why, cap);
		break;
	case TYPE_JSON:
		rv = array_text(text, why, cap);
		break;
	}
	if (rv != E_OK)
		return rv;
	if (d->type != TYPE_RATE && ((d->min != 0 && v < d->min) || (d->max != 0 && v > d->max))) {
		char least[32], most[32];

		snprintf(why, cap, "\"%.40s\" is out of range: %s %s%s%s", text,
		    d->max != 0 ? "from" : "at least", bound_text(d, d->min, least, sizeof least),
		    d->max != 0 ? " to " : "",
		    d->max != 0 ? bound_text(d, d->max, most, sizeof most) : "");
		return E_INVAL;
	}
	*number = v;
	return E_OK;
}

const char *
config_size_text(uint64_t bytes, char *buf, size_t cap)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i < 4) {
		v /= 1024;
		i++;
	}
	snprintf(buf, cap, i == 0 || v >= 100 || v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s",
	    v, names[i]);
	return buf;
}

const char *
config_duration_text(uint64_t ms, char *buf, size_t cap)
{
	if (ms < 1000)
		snprintf(buf, cap, "%" PRIu64 "ms", ms);
	else if (ms < 120 * 1000)
		snprintf(buf, cap, "%" PRIu64 "s", ms / 1000);
	else if (ms < 2 * 3600 * 1000)
		snprintf(buf, cap, "%" PRIu64 "m", ms / 60000);
	else if (ms < 2 * 24 * 3600 * 1000ull)
		snprintf(buf, cap, "%" PRIu64 "h", ms / 3600000);
	else
		snprintf(buf, cap, "%" PRIu64 "d", ms / 86400000);
	return buf;
}
