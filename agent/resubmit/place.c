/*
 * place.c - where a ComfyUI listens, as the observer of health has found it.
 */
#include <arpa/inet.h>
#include <string.h>

#include "agent/resubmit/internal.h"

bool
place_of(const struct status_process *p, struct sockaddr_storage *to, socklen_t *bytes)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(p->port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(p->port) };

	if (p->port == 0 || p->tls)
		return false;
	memset(to, 0, sizeof *to);
	if (inet_pton(AF_INET, p->address, &v4.sin_addr) == 1) {
		memcpy(to, &v4, sizeof v4);
		*bytes = sizeof v4;
		return true;
	}
	if (inet_pton(AF_INET6, p->address, &v6.sin6_addr) == 1) {
		memcpy(to, &v6, sizeof v6);
		*bytes = sizeof v6;
		return true;
	}
	return false;
}
