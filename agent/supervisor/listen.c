/*
 * listen.c - see listen.h.
 */
#include "agent/supervisor/listen.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define PORT_DEFAULT 8188

/* The value of "--name VALUE" or "--name=VALUE", the last one given; NULL: none. */
static const char *
option(char *const *command, const char *name)
{
	const char *value = NULL;
	size_t n = strlen(name);

	for (size_t i = 0; command[i] != NULL; i++) {
		if (strncmp(command[i], name, n) != 0)
			continue;
		if (command[i][n] == '=')
			value = command[i] + n + 1;
		else if (command[i][n] == '\0' && command[i + 1] != NULL &&
			 strncmp(command[i + 1], "--", 2) != 0)
			value = command[i + 1];
	}
	return value;
}

static uint16_t
port_of(char *const *command)
{
	const char *text = option(command, "--port");
	char *end;
	unsigned long port = text != NULL ? strtoul(text, &end, 10) : 0;

	return port > 0 && port < 65536 && *end == '\0' ? (uint16_t)port : PORT_DEFAULT;
}

static void
take_v4(struct listen *out, struct in_addr a)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(out->port), .sin_addr = a
	};

	if (a.s_addr == htonl(INADDR_ANY))
		to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	memcpy(&out->to, &to, sizeof to);
	out->bytes = sizeof to;
}

static void
take_v6(struct listen *out, struct in6_addr a)
{
	struct sockaddr_in6 to = {
		.sin6_family = AF_INET6, .sin6_port = htons(out->port), .sin6_addr = a
	};

	if (IN6_IS_ADDR_UNSPECIFIED(&a))
		to.sin6_addr = in6addr_loopback;
	memcpy(&out->to, &to, sizeof to);
	out->bytes = sizeof to;
}

void
listen_of(char *const *command, struct listen *out)
{
	const char *text = option(command, "--listen");
	size_t n = text != NULL ? strcspn(text, ",") : 0; /* of several the first */
	struct in_addr four = { .s_addr = htonl(INADDR_LOOPBACK) };
	char first[INET6_ADDRSTRLEN] = "";
	struct in6_addr six;

	memset(out, 0, sizeof *out);
	out->port = port_of(command);
	out->tls = option(command, "--tls-keyfile") != NULL;
	if (n < sizeof first && n > 0)
		memcpy(first, text, n);
	if (inet_pton(AF_INET6, first, &six) == 1) {
		take_v6(out, six);
		return;
	}
	(void)inet_pton(AF_INET, first, &four); /* writes only what it understands */
	take_v4(out, four);
}
