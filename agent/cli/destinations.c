/*
 * destinations.c - "datadog, file:/path, NAME=http://host:port, none" into
 * destination options.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

#define AGENT_SOCKET   "/var/run/datadog/apm.socket"
#define METRICS_SOCKET "/var/run/datadog/dsd.socket"

static void
copy(char *to, size_t cap, const char *from)
{
	snprintf(to, cap, "%s", from);
}

void
agent_url(const struct config *c, char *url, size_t cap)
{
	const char *given = config_string(c, OPT_AGENT_URL),
		   *host = config_string(c, OPT_AGENT_HOST);
	unsigned port = (unsigned)config_number(c, OPT_AGENT_PORT);

	if (given[0] != '\0')
		copy(url, cap, given);
	else if (host[0] == '\0' && !config_is_set(c, OPT_AGENT_PORT) &&
		 access(AGENT_SOCKET, W_OK) == 0)
		copy(url, cap, "unix://" AGENT_SOCKET);
	else if (strchr(host, ':') != NULL && host[0] != '[')
		snprintf(url, cap, "http://[%s]:%u", host, port);
	else
		snprintf(url, cap, "http://%s:%u", host[0] != '\0' ? host : "localhost", port);
}

void
metrics_url(const struct config *c, char *url, size_t cap)
{
	const char *given = config_string(c, OPT_METRICS_URL),
		   *host = config_string(c, OPT_METRICS_HOST);
	unsigned port = (unsigned)config_number(c, OPT_METRICS_PORT);

	if (host[0] == '\0')
		host = config_string(c, OPT_AGENT_HOST);
	if (given[0] != '\0')
		copy(url, cap, given);
	else if (host[0] == '\0' && !config_is_set(c, OPT_METRICS_PORT) &&
		 access(METRICS_SOCKET, W_OK) == 0)
		copy(url, cap, "unix://" METRICS_SOCKET);
	else if (strchr(host, ':') != NULL && host[0] != '[')
		snprintf(url, cap, "udp://[%s]:%u", host, port);
	else
		snprintf(url, cap, "udp://%s:%u", host[0] != '\0' ? host : "localhost", port);
}

static bool
known_url(const char *url)
{
	return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0 ||
	       strncmp(url, "unix:///", 8) == 0;
}

static int
refuse(const char *item, const char *why)
{
	fprintf(stderr, "comfymon: destinations: \"%.60s\": %s\n", item, why);
	return CLI_USAGE;
}

/* One item of the list; sets d->name, kind and url. */
static int
parse_item(const struct config *c, const char *item, struct destination_options *d)
{
	const char *eq = strchr(item, '=');

	if (strcmp(item, "datadog") == 0) {
		copy(d->name, sizeof d->name, "datadog");
		agent_url(c, d->url, sizeof d->url);
	} else if (strncmp(item, "file:", 5) == 0) {
		d->kind = DEST_FILE;
		copy(d->name, sizeof d->name, "file");
		copy(d->url, sizeof d->url, item + 5);
		return d->url[0] == '/' ? CLI_OK : refuse(item, "expected file:/absolute/path");
	} else if (eq != NULL && eq != item && (size_t)(eq - item) < sizeof d->name) {
		memcpy(d->name, item, (size_t)(eq - item));
		d->name[eq - item] = '\0';
		copy(d->url, sizeof d->url, eq + 1);
	} else {
		return refuse(item, "expected datadog, file:/path, NAME=URL or none");
	}
	d->kind = DEST_DATADOG_AGENT;
	if (strlen(d->url) == sizeof d->url - 1) /* it may have been cut */
		return refuse(item, "the address is longer than 510 bytes");
	if (strncmp(d->url, "unix://", 7) == 0 &&
	    strlen(d->url + 7) >= sizeof((struct sockaddr_un *)0)->sun_path)
		return refuse(d->url, "a socket's path has at most 107 bytes");
	return known_url(d->url) ? CLI_OK
				 : refuse(d->url, "expected http://host:port or unix:///path");
}

int
destinations_of(const struct cli *c, struct destination_options *out, size_t *count)
{
	const struct config *g = c->config;
	char list[1024], *save = NULL;
	int rv = CLI_OK;

	*count = 0;
	if (strlen(config_string(g, OPT_TAGS)) >= sizeof out->tags)
		return refuse(config_string(g, OPT_TAGS), "tags are too long");
	if (strlen(config_string(g, OPT_SERVICE_MAPPING)) >= sizeof out->service_mapping)
		return refuse(config_string(g, OPT_SERVICE_MAPPING), "service_mapping is too long");
	if (strlen(config_string(g, OPT_DESTINATIONS)) >= sizeof list)
		return refuse("...", "the list is longer than 1 KB");
	copy(list, sizeof list, config_string(g, OPT_DESTINATIONS));
	for (char *item = strtok_r(list, ", ", &save); item != NULL && rv == CLI_OK;
	     item = strtok_r(NULL, ", ", &save)) {
		struct destination_options *d = &out[*count];

		if (strcmp(item, "none") == 0)
			continue;
		if (*count == STATUS_DESTINATIONS)
			return refuse(item, "too many destinations");
		memset(d, 0, sizeof *d);
		d->timeout_ms = config_number(g, OPT_AGENT_TIMEOUT);
		d->request_max_bytes = (uint32_t)config_number(g, OPT_REQUEST_BYTES);
		copy(d->ca_file, sizeof d->ca_file, config_string(g, OPT_CA_FILE));
		copy(d->service, sizeof d->service, config_string(g, OPT_SERVICE));
		copy(d->env, sizeof d->env, config_string(g, OPT_ENV));
		copy(d->version, sizeof d->version, config_string(g, OPT_VERSION));
		copy(d->hostname, sizeof d->hostname, config_string(g, OPT_HOSTNAME));
		copy(d->tags, sizeof d->tags, config_string(g, OPT_TAGS));
		copy(d->service_mapping, sizeof d->service_mapping,
		    config_string(g, OPT_SERVICE_MAPPING));
		d->asked = config_mentions_datadog(g) || strcmp(item, "datadog") != 0;
		rv = parse_item(g, item, d);
		for (size_t i = 0; i < *count && rv == CLI_OK; i++)
			if (strcmp(out[i].name, d->name) == 0)
				rv = refuse(item, "the name is used twice");
		(*count)++;
	}
	return rv;
}
