/*
 * fuzz_kernel.c - any bytes as what the kernel says: of processes, sockets,
 * memory, mounts, command lines.  rooms: memory health supervisor base core schema
 *
 * Names of processes and groups, paths and arguments are chosen by others.  The
 * first byte says which text it is.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/base/cgroup.h"
#include "agent/health/proc.h"
#include "agent/memory/text.h"
#include "agent/supervisor/listen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void
numbers(const char *text)
{
	struct pressure_text pressure = { 0 };
	struct status_text status = { 0 };
	struct host_text host = { 0 };
	struct proc_stat process;
	struct stat_text stat;
	uint64_t v = 0;

	if (text_status(text, &status) && status.rss_bytes % 1024 != 0)
		abort();
	if (text_stat(text, &stat) && proc_stat_text(text, &process) &&
	    stat.start_ticks != process.start_ticks)
		abort();
	if (text_meminfo(text, &host) && host.total_bytes % 1024 != 0)
		abort();
	if (text_pressure(text, &pressure) &&
	    (pressure.some_x100 > 10099 || pressure.full_x100 > 10099))
		abort();
	if (text_pss(text, &v) && v % 1024 != 0)
		abort();
	(void)text_value(text, &v);
}

static void
socket_line(const char *text)
{
	union proc_address a;
	uint64_t inode;

	if (proc_tcp_line(text, &a, &inode) &&
	    (proc_address_port(&a) == 0 ||
		(a.any.sa_family != AF_INET && a.any.sa_family != AF_INET6)))
		abort();
}

/* Mounts, and behind the first NUL the groups. */
static void
group(const char *mounts, const char *groups, size_t cap)
{
	for (int version = 1; version <= 2; version++) {
		char *path = malloc(cap);

		if (cgroup_find(mounts, groups, version, path, cap) == E_OK &&
		    memchr(path, '\0', cap) == NULL)
			abort();
		free(path);
	}
}

static void
command_line(char *text, size_t n)
{
	struct listen l;
	char *words[64];
	size_t count = 0;

	for (size_t i = 0; i < n && count < 63; i += strlen(text + i) + 1)
		words[count++] = text + i;
	words[count] = NULL;
	listen_of(words, &l);
	if (l.port == 0 || l.bytes > sizeof l.to)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char *text;

	if (n < 2)
		return 0;
	text = malloc(n - 1);
	memcpy(text, data + 2, n - 2);
	text[n - 2] = '\0';
	if (data[0] % 4 == 0)
		numbers(text);
	else if (data[0] % 4 == 1)
		socket_line(text);
	else if (data[0] % 4 == 2)
		group(text, strlen(text) < n - 2 ? text + strlen(text) + 1 : text, 1 + data[1]);
	else
		command_line(text, n - 1);
	free(text);
	return 0;
}
