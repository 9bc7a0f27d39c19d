/*
 * internal.h - inside of the control room: its two doors, and what they share.
 * The control socket has a thread of libmicrohttpd's, the health port one of
 * ours; both read `options` and `shown` only, which do not change while they run.
 */
#pragma once

#include <microhttpd.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "agent/control/control.h"
#include "agent/core/outbuf.h"

/* Does the pipeline answer? Of one door, that is: of one thread. */
struct alive {
	uint64_t asked_ns;  /* newest question, 0 never */
	uint64_t silent_ns; /* since when none was answered, 0: the newest was */
	enum err last;
};

/* The page of metrics that was made last, of one door too. */
struct page {
	struct outbuf text; /* empty: none */
	uint64_t made_ns;
};

/* What a request comes in by. */
struct door {
	const struct control_options *options;
	const struct status_health_port *shown;
	bool open_only;  /* routes of the table's column `open` */
	bool local_only; /* who calls us by another name than this host's own is refused */
	struct alive alive;
	struct page page;
};

struct port;

struct control {
	struct control_options options;
	struct status_health_port shown;
	struct door socket_door, port_door;
	struct port *port;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	struct MHD_Daemon *daemon;
};

/* ---- server.c ------------------------------------------------------------ */

/* MHD_AccessHandlerCallback; `cls` is a door. */
enum MHD_Result control_answer(void *cls, struct MHD_Connection *connection, const char *url,
    const char *method, const char *version, const char *upload, size_t *upload_bytes,
    void **state);

/* ---- host.c -------------------------------------------------------------- */

/*
 * Is this, of a Host header, a name of this host's own loopback?  A page of
 * somebody else's that has its own name resolve to 127.0.0.1 is refused by it.
 */
bool host_is_local(const char *host);

/* ---- listen.c ------------------------------------------------------------ */

/* E_BUSY: somebody listens there. What nobody listens at is replaced; mode 0600. */
MUST_CHECK enum err listen_unix(const char *path, int *out);

#define LISTEN_ADDRESSES 2u
union listen_address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};
/* 127.0.0.1 and ::1, or the address of that text; 0: it is none. */
size_t listen_addresses(
    const char *text, uint16_t port, union listen_address out[LISTEN_ADDRESSES]);
bool listen_is_loopback(const union listen_address *a);
/* "[::1]:8127" */
void listen_text(const union listen_address *a, char *out, size_t cap);
/* A descriptor, or -1 and errno. "::" takes IPv4 as well. */
int listen_tcp(const union listen_address *a);

/* ---- port.c -------------------------------------------------------------- */

/*
 * Listens on loopback, or on `bind`, where `door` is answered; fills `shown`, and the door's
 * local_only.  An address that cannot be had is a problem told there, not an error.  E_NOMEM,
 * E_IO: the host has nothing left.
 */
MUST_CHECK enum err port_start(uint16_t number, const char *bind, struct door *door,
    struct status_health_port *shown, struct port **out);
void port_stop(struct port *p); /* NULL is fine */
