/*
 * slowname.c - a shim for LD_PRELOAD: the resolver takes SLOW_NAME_S seconds and
 * then knows nobody.
 */
#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

int
getaddrinfo(const char *restrict name, const char *restrict service,
    const struct addrinfo *restrict hints, struct addrinfo **restrict out)
{
	const char *seconds = getenv("SLOW_NAME_S");

	(void)name;
	(void)service;
	(void)hints;
	(void)out;
	sleep(seconds != NULL ? (unsigned)strtoul(seconds, NULL, 10) : 0);
	return EAI_NONAME;
}
