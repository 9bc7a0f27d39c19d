/*
 * proc.c - see proc.h.
 */
#include "agent/health/proc.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOCKETS_MOST 4096u /* of a process; those beyond are not looked at */

/* The name in parentheses may hold anything: fields count from behind the last one. */
bool
proc_stat_text(const char *text, struct proc_stat *out)
{
	const char *p = strrchr(text, ')');
	uint64_t user = 0;

	if (p == NULL || p[1] != ' ' || p[2] == '\0')
		return false;
	out->state = p[2];
	p += 2;
	for (int field = 4; field <= 22; field++) {
		if ((p = strchr(p + 1, ' ')) == NULL)
			return false;
		if (field == 14)
			user = strtoull(p, NULL, 10);
		else if (field == 15)
			out->cpu_ms =
			    (user + strtoull(p, NULL, 10)) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
	}
	out->start_ticks = strtoull(p, NULL, 10);
	return true;
}

enum err
proc_stat(uint64_t pid, uint64_t tid, struct proc_stat *out)
{
	char path[64], text[1024];
	enum err e = E_NOTFOUND;
	ssize_t n;
	int fd;

	if (tid == 0)
		snprintf(path, sizeof path, "/proc/%" PRIu64 "/stat", pid);
	else
		snprintf(path, sizeof path, "/proc/%" PRIu64 "/task/%" PRIu64 "/stat", pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_from_errno(errno);
	n = read(fd, text, sizeof text - 1);
	if (n < 0)
		e = err_from_errno(errno);
	close(fd);
	if (n <= 0)
		return e; /* it ended between open and read */
	text[n] = '\0';
	return proc_stat_text(text, out) ? E_OK : E_IO;
}

socklen_t
proc_address_bytes(const union proc_address *a)
{
	return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

uint16_t
proc_address_port(const union proc_address *a)
{
	return ntohs(a->any.sa_family == AF_INET6 ? a->v6.sin6_port : a->v4.sin_port);
}

void
proc_address_text(const union proc_address *a, char *out, size_t cap)
{
	const void *bytes = a->any.sa_family == AF_INET6 ? (const void *)&a->v6.sin6_addr
							 : (const void *)&a->v4.sin_addr;

	if (inet_ntop(a->any.sa_family, bytes, out, (socklen_t)cap) == NULL)
		out[0] = '\0';
}

/* Hex words of 32 bits in the host's order, as the kernel prints addresses. */
static bool
take_words(const char *hex, size_t words, void *to)
{
	for (size_t i = 0; i < words; i++) {
		char word[9], *end;
		uint32_t v;

		memcpy(word, hex + 8 * i, 8);
		word[8] = '\0';
		v = (uint32_t)strtoul(word, &end, 16);
		if (end != word + 8)
			return false;
		memcpy((uint8_t *)to + 4 * i, &v, 4);
	}
	return true;
}

/* "0100007F:1FFC" or 32 digits before the colon. */
static bool
take_address(const char *text, size_t digits, union proc_address *a)
{
	char *end;
	unsigned long port;

	memset(a, 0, sizeof *a);
	if ((digits != 8 && digits != 32) || text[digits] != ':')
		return false;
	port = strtoul(text + digits + 1, &end, 16);
	if (end != text + digits + 5 || port == 0)
		return false;
	if (digits == 8) {
		a->v4.sin_family = AF_INET;
		a->v4.sin_port = htons((uint16_t)port);
		if (!take_words(text, 1, &a->v4.sin_addr))
			return false;
		if (a->v4.sin_addr.s_addr == htonl(INADDR_ANY))
			a->v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		return true;
	}
	a->v6.sin6_family = AF_INET6;
	a->v6.sin6_port = htons((uint16_t)port);
	if (!take_words(text, 4, &a->v6.sin6_addr))
		return false;
	if (IN6_IS_ADDR_UNSPECIFIED(&a->v6.sin6_addr))
		a->v6.sin6_addr = in6addr_loopback;
	return true;
}

/*
 *   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
 *    0: 0100007F:1FFC 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 81731
 */
bool
proc_tcp_line(const char *line, union proc_address *out, uint64_t *inode)
{
	char local[64], state[8];

	if (sscanf(line, " %*[0-9]: %63s %*s %7s %*s %*s %*s %*s %*s %" SCNu64, local, state,
		inode) != 3 ||
	    strcmp(state, "0A") != 0)
		return false;
	return take_address(local, strcspn(local, ":"), out);
}

struct inodes {
	uint64_t of[SOCKETS_MOST];
	size_t count;
};

static enum err
sockets_of(uint64_t pid, struct inodes *all)
{
	char path[64], link[64];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%" PRIu64 "/fd", pid);
	d = opendir(path);
	if (d == NULL)
		return err_from_errno(errno);
	while ((e = readdir(d)) != NULL && all->count < SOCKETS_MOST) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof link - 1);

		if (n <= 0)
			continue;
		link[n] = '\0';
		if (sscanf(link, "socket:[%" SCNu64 "]", &all->of[all->count]) == 1)
			all->count++;
	}
	closedir(d);
	return E_OK;
}

/* Of another one the sockets may be seen, but not connected to. */
static bool
same_network(uint64_t pid)
{
	struct stat ours, theirs;
	char path[64];

	snprintf(path, sizeof path, "/proc/%" PRIu64 "/ns/net", pid);
	return stat(path, &theirs) != 0 || stat("/proc/self/ns/net", &ours) != 0 ||
	       (ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev);
}

/* The kernel lists those that listen first: thousands of connections behind them are not read. */
static enum err
match(const char *path, const struct inodes *all, union proc_address out[PROC_LISTENING],
    size_t *count)
{
	FILE *f = fopen(path, "re");
	union proc_address a;
	char line[512];
	uint64_t inode;

	if (f == NULL) /* a kernel without IPv6 has no tcp6 */
		return errno == ENOENT ? E_OK : err_from_errno(errno);
	while (*count < PROC_LISTENING && fgets(line, sizeof line, f) != NULL) {
		if (!proc_tcp_line(line, &a, &inode)) {
			if (strchr(line, ':') != NULL)
				break;
			continue; /* the head */
		}
		for (size_t i = 0; i < all->count; i++)
			if (all->of[i] == inode) {
				out[(*count)++] = a;
				break;
			}
	}
	fclose(f);
	return E_OK;
}

enum err
proc_listening(uint64_t pid, union proc_address out[PROC_LISTENING], size_t *count)
{
	struct inodes *all;
	enum err e;

	if (!same_network(pid))
		return E_STATE;
	all = calloc(1, sizeof *all);
	if (all == NULL)
		return E_NOMEM;
	e = sockets_of(pid, all);
	*count = 0;
	if (e == E_OK && all->count > 0)
		e = match("/proc/net/tcp", all, out, count);
	if (e == E_OK && all->count > 0)
		e = match("/proc/net/tcp6", all, out, count);
	free(all);
	return e;
}
