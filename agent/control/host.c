/*
 * host.c - whose name is in a Host header.  Source: RFC 9110, 7.2; RFC 3986, 3.2.2.
 */
#include <string.h>
#include <strings.h>

#include "agent/control/internal.h"

bool
host_is_local(const char *host)
{
	static const char *const names[] = { "localhost", "127.0.0.1", "[::1]" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		size_t n = strlen(names[i]);
		const char *port = host + n;

		if (strncasecmp(host, names[i], n) != 0)
			continue;
		if (port[0] == '\0')
			return true;
		return port[0] == ':' && port[1 + strspn(port + 1, "0123456789")] == '\0';
	}
	return false;
}
