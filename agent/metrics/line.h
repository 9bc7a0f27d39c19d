/*
 * line.h - inside of the metrics room: the way to who takes metrics, a connected
 * socket that never blocks.  Sender's thread; only line_resolve may wait, for
 * the resolver.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "agent/base/err.h"
#include "agent/core/metrics.h"

#define LINE_ADDRESSES 8u /* of one host name */

union line_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_un path;
};

struct line {
	bool is_unix;
	char host[256], port[8];
	union line_address addresses[LINE_ADDRESSES];
	unsigned address_count;
	unsigned turn; /* the address that is used; another one after a refusal */
	bool fixed;    /* there is no name to look up */
	bool stale;    /* none of the addresses would do: look again */
	int fd;        /* -1: not open */
	char error[160];
};

/* "udp://host:port", "unix:///path", "unixgram:///path"; E_INVAL. Nothing is opened. */
MUST_CHECK enum err line_parse(const char *url, struct line *out);
/* It has a name to look up now. */
bool line_needs_resolver(const struct line *l);
/* May take as long as the resolver likes. When it fails, earlier addresses stay and error[] says
 * why. */
void line_resolve(struct line *l);
/* Open, if it is not. False: *why, and error[] in words. */
bool line_open(struct line *l, enum metrics_drop *why);
bool line_send(struct line *l, const char *datagram, size_t n, enum metrics_drop *why);
/* Was something not delivered that line_send had taken for sent? */
bool line_failed_since(struct line *l, enum metrics_drop *why);
void line_close(struct line *l);
/* Close, and open at the next address; behind the last one the name is looked up again. */
void line_renew(struct line *l);
