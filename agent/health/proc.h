/*
 * proc.h - what the kernel says of a process or one of its threads.  Any
 * thread; reads of /proc, which do not wait.  Source: proc(5).
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

struct proc_stat {
	char state; /* 'R', 'S', 'T', 'Z' ... */
	uint64_t start_ticks, cpu_ms;
};

/* What /proc/PID/stat holds; false when that is something else. Pure. */
bool proc_stat_text(const char *text, struct proc_stat *out);
/*
 * Of a process (tid 0) or one of its threads.  E_NOTFOUND: it is not there; what
 * else fails says nothing about it (E_FULL: we have no descriptor left).
 */
MUST_CHECK enum err proc_stat(uint64_t pid, uint64_t tid, struct proc_stat *out);

/* An address on which a process listens, made fit to connect to: any becomes loopback. */
union proc_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};
socklen_t proc_address_bytes(const union proc_address *a);
uint16_t proc_address_port(const union proc_address *a);
/* "127.0.0.1", "::1": without the port. */
void proc_address_text(const union proc_address *a, char *out, size_t cap);

#define PROC_LISTENING 16u

/*
 * Where it listens, at most PROC_LISTENING.  E_PERM: its descriptors are not
 * ours to read; E_STATE: it lives in another network, nothing there can be
 * reached from here; E_NOTFOUND: it is gone; E_FULL, E_NOMEM: we could not look.
 */
MUST_CHECK enum err proc_listening(
    uint64_t pid, union proc_address out[PROC_LISTENING], size_t *count);

/* A line of /proc/net/tcp or tcp6: true and the inode when it is a listening socket. */
bool proc_tcp_line(const char *line, union proc_address *out, uint64_t *inode);
