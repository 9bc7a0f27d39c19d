/* identity.c - see identity.h */
#include "probe/python/identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define LIFE_MAX 63u

/* How a value must look; a value that does not is left out, with a warning. */
enum shape { TEXT, SWITCH, RATE, LIMIT, RULES, PAIRS, LIFE };

static const struct {
	const char *variable, *key;
	enum shape shape;
} variables[] = {
	{ "COMFYMON_LIFE", "life", LIFE }, /* first: what is long may leave no room */
	{ "DD_SERVICE", "service", TEXT },
	{ "DD_ENV", "env", TEXT },
	{ "DD_VERSION", "version", TEXT },
	{ "DD_TAGS", "tags", PAIRS },
	{ "DD_HOSTNAME", "hostname", TEXT },
	{ "DD_TRACE_SAMPLE_RATE", "sample_rate", RATE },
	{ "DD_TRACE_SAMPLING_RULES", "sampling_rules", RULES },
	{ "DD_TRACE_RATE_LIMIT", "rate_limit", LIMIT },
	{ "DD_SERVICE_MAPPING", "service_mapping", PAIRS },
	{ "DD_TRACE_ENABLED", "trace_enabled", SWITCH },
	{ "COMFYMON_RESUBMIT", "resubmit", SWITCH },
	{ "DD_TRACE_REPORT_HOSTNAME", "report_hostname", SWITCH },
	{ "DD_TRACE_PEER_SERVICE_DEFAULTS_ENABLED", "peer_service", SWITCH },
	{ "DD_TRACE_PROPAGATION_STYLE", "propagation_style", TEXT },
};

static void
warn(struct identity *id, const char *variable, const char *what)
{
	unsigned n = id->warning_count++;
	if (n < IDENTITY_WARNINGS_MAX)
		snprintf(id->warnings[n], sizeof id->warnings[n], "%s: %s", variable, what);
}

/* -1 when it is no boolean. */
static int
boolean(const char *v)
{
	static const char *const yes[] = { "1", "true", "yes", "on" };
	static const char *const no[] = { "0", "false", "no", "off" };
	for (int i = 0; i < 4; i++) {
		if (strcasecmp(v, yes[i]) == 0)
			return 1;
		if (strcasecmp(v, no[i]) == 0)
			return 0;
	}
	return -1;
}

bool
identity_switch(const char *variable)
{
	const char *v = getenv(variable);
	return v != NULL && boolean(v) == 1;
}

/* Every item of a list by comma or space is key:value. */
static bool
pairs(const char *v)
{
	while (*v != '\0') {
		v += strspn(v, ", ");
		size_t n = strcspn(v, ", ");
		const char *colon = memchr(v, ':', n);
		if (n > 0 && (colon == NULL || colon == v))
			return false;
		v += n;
	}
	return true;
}

static bool
number(const char *v, double least, double most)
{
	char *end;
	double d = strtod(v, &end);
	return end != v && *end == '\0' && d >= least && d <= most;
}

static const char *
fault(enum shape shape, const char *v)
{
	size_t n = strlen(v);
	switch (shape) {
	case SWITCH:
		return boolean(v) < 0 ? "neither true nor false" : NULL;
	case RATE:
		return number(v, 0, 1) ? NULL : "not a number from 0 to 1";
	case LIMIT:
		return number(v, -1e9, 1e9) ? NULL : "not a number";
	case RULES:
		return v[strspn(v, " \t\n")] == '[' && v[n - 1] == ']' ? NULL : "not a JSON list";
	case LIFE:
		return n <= LIFE_MAX && v[strspn(v, "0123456789abcdef-")] == '\0'
			   ? NULL
			   : "not the id of a life";
	case PAIRS:
		return pairs(v) ? NULL : "an item without key:value";
	default:
		return NULL;
	}
}

static void
put(struct identity *id, const char *variable, const char *key, const char *value)
{
	wire_attr_put(&id->attrs, key, value);
	if (id->attrs.full) {
		id->attrs.full = false;
		warn(id, variable, "too long, left out");
	}
}

static void
put_variable(struct identity *id, size_t i)
{
	const char *v = getenv(variables[i].variable);
	if (v == NULL || *v == '\0')
		return;
	const char *what = fault(variables[i].shape, v);
	if (what == NULL || variables[i].shape == PAIRS) /* the good pairs of a list still count */
		put(id, variables[i].variable, variables[i].key, v);
	if (what != NULL)
		warn(id, variables[i].variable, what);
}

static void
put_runtime_id(struct identity *id)
{
	uint8_t raw[16];
	char text[33];
	if (getrandom(raw, sizeof raw, GRND_NONBLOCK) != (ssize_t)sizeof raw)
		return;
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", raw[i]);
	put(id, "runtime_id", "runtime_id", text);
}

/* 64 hex digits in the process's cgroup path are a container's id. */
static void
put_container_id(struct identity *id)
{
	char line[1024], found[65] = "";
	FILE *f = fopen("/proc/self/cgroup", "re");
	while (f != NULL && found[0] == '\0' && fgets(line, sizeof line, f) != NULL) {
		for (char *p = line; *p != '\0';) {
			size_t n = strspn(p, "0123456789abcdef");
			if (n == 64)
				memcpy(found, p, 64);
			p += n > 0 ? n : 1;
		}
	}
	if (f != NULL)
		fclose(f);
	found[64] = '\0';
	put(id, "container_id", "container_id", found);
}

static void
read_switches(struct identity *id)
{
	static const char *const names[] = { "DD_TRACE_ENABLED", "COMFYMON_ENABLED" };
	id->enabled = true;
	for (int i = 0; i < 2; i++) {
		const char *v = getenv(names[i]);
		if (v != NULL && boolean(v) == 0) {
			id->enabled = false;
			id->disabled_by = names[i];
		}
	}
}

void
identity_read(struct identity *id, const char *language_version)
{
	char pid[24];
	memset(id, 0, sizeof *id);
	id->attrs.buf = id->bytes;
	id->attrs.cap = sizeof id->bytes;
	read_switches(id);
	put_runtime_id(id);
	put(id, "language", "language", "python");
	put(id, "language_version", "language_version", language_version);
	put(id, "probe_version", "probe_version", COMFYMON_VERSION);
	snprintf(pid, sizeof pid, "%ld", (long)getpid());
	put(id, "pid", "pid", pid);
	put_container_id(id);
	for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
		put_variable(id, i);
}
