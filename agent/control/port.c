/*
 * port.c - health on a TCP port, for probes that cannot use a Unix socket: one
 * thread of ours over libmicrohttpd's epoll descriptors, one a listening
 * address.  Who is slow loses: a connection has SLOW_NS from its first byte to
 * its last, and CROWDED_NS while all places of its address are taken; the next
 * wait in the kernel's queue.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/thread.h"
#include "agent/control/internal.h"

#define CONNECTIONS_MAX   32u /* an address */
#define CONNECTION_MEMORY (8u * 1024)
#define SLOW_NS           (5 * NS_PER_S)
#define CROWDED_NS        (NS_PER_S / 4)

/* One that is open. */
struct caller {
	int fd;
	uint64_t since_ns;
	bool cut; /* it was shut down, and libmicrohttpd does not know yet */
};

struct listener {
	struct MHD_Daemon *daemon;
	int epoll_fd;
	struct caller callers[CONNECTIONS_MAX];
	size_t count;
};

struct port {
	struct listener listeners[LISTEN_ADDRESSES];
	size_t count;
	int stop_fd;
	struct thread thread;
};

/* ---- callers ------------------------------------------------------------- */

/* Inside of MHD_run: on our thread. */
static void
came_or_went(void *cls, struct MHD_Connection *connection, void **context,
    enum MHD_ConnectionNotificationCode what)
{
	struct listener *l = cls;
	int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

	(void)context;
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		if (l->count < CONNECTIONS_MAX)
			l->callers[l->count++] = (struct caller){ fd, clock_mono_ns(), false };
		return;
	}
	for (size_t i = 0; i < l->count; i++)
		if (l->callers[i].fd == fd) {
			l->callers[i] = l->callers[--l->count];
			return;
		}
}

/* Ends who is late; when the next one will be, UINT64_MAX never. */
static uint64_t
cut_late(struct listener *l, uint64_t now_ns)
{
	uint64_t patience = l->count == CONNECTIONS_MAX ? CROWDED_NS : SLOW_NS, next = UINT64_MAX;

	for (size_t i = 0; i < l->count; i++) {
		struct caller *c = &l->callers[i];

		if (c->cut)
			continue;
		if (now_ns - c->since_ns >= patience) {
			shutdown(c->fd, SHUT_RDWR);
			c->cut = true;
		} else if (c->since_ns + patience < next) {
			next = c->since_ns + patience;
		}
	}
	return next;
}

static int
wait_ms(const struct port *p, uint64_t until_ns, uint64_t now_ns)
{
	uint64_t ms = until_ns == UINT64_MAX ? UINT64_MAX
		      : until_ns > now_ns    ? (until_ns - now_ns) / NS_PER_MS + 1
					     : 0;

	for (size_t i = 0; i < p->count; i++) {
		MHD_UNSIGNED_LONG_LONG wish;

		if (MHD_get_timeout(p->listeners[i].daemon, &wish) == MHD_YES && wish < ms)
			ms = wish;
	}
	return ms == UINT64_MAX ? -1 : (int)ms;
}

/* libmicrohttpd looks away from the queue while all places are taken, back at its next run only. */
static void
run(struct listener *l)
{
	size_t before;

	do {
		before = l->count;
		(void)MHD_run(l->daemon);
	} while (before == CONNECTIONS_MAX && l->count < before);
}

static void
serve(void *arg)
{
	struct port *p = arg;
	struct pollfd fds[1 + LISTEN_ADDRESSES] = { { .fd = p->stop_fd, .events = POLLIN } };

	for (size_t i = 0; i < p->count; i++)
		fds[1 + i] = (struct pollfd){ .fd = p->listeners[i].epoll_fd, .events = POLLIN };
	while ((fds[0].revents & POLLIN) == 0) {
		uint64_t now, until = UINT64_MAX;

		for (size_t i = 0; i < p->count; i++)
			run(&p->listeners[i]);
		now = clock_mono_ns();
		for (size_t i = 0; i < p->count; i++) {
			uint64_t next = cut_late(&p->listeners[i], now);

			until = next < until ? next : until;
		}
		(void)poll(fds, 1 + p->count, wait_ms(p, until, now));
	}
}

/* ---- listening ----------------------------------------------------------- */

/* This host, or this container, has no IPv6 (or, rarely, no IPv4). */
static bool
is_absent(int error)
{
	return error == EAFNOSUPPORT || error == EADDRNOTAVAIL;
}

static enum err
add_listener(struct port *p, int fd, struct door *door)
{
	struct listener *l = &p->listeners[p->count];

	l->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, control_answer, door,
	    MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
	    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY,
	    MHD_OPTION_STRICT_FOR_CLIENT, 1, /* a name is due in HTTP/1.1 */
	    MHD_OPTION_NOTIFY_CONNECTION, came_or_went, l, MHD_OPTION_END);
	if (l->daemon == NULL) {
		close(fd);
		return E_NOMEM;
	}
	l->epoll_fd = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
	p->count++;
	return E_OK;
}

static void
stop_listening(struct port *p)
{
	while (p->count > 0)
		MHD_stop_daemon(p->listeners[--p->count].daemon); /* closes its socket */
}

/* All of the addresses or none: "localhost" must not be ours by one and another's by the other. */
static enum err
listen_everywhere(struct port *p, const union listen_address *all, size_t n, struct door *door,
    struct status_health_port *shown)
{
	char text[64];
	size_t used = 0;
	int absent = 0;

	for (size_t i = 0; i < n; i++) {
		int fd = listen_tcp(&all[i]), error = errno;
		enum err e;

		if (fd < 0 && n > 1 && is_absent(error)) {
			absent = error;
			continue;
		}
		listen_text(&all[i], text, sizeof text);
		if (fd < 0) {
			snprintf(
			    shown->problem, sizeof shown->problem, "%s: %s", text, strerror(error));
			break;
		}
		if ((e = add_listener(p, fd, door)) != E_OK)
			return e;
		used += (size_t)snprintf(
		    shown->at + used, sizeof shown->at - used, "%s%s", used > 0 ? ", " : "", text);
	}
	if (p->count == 0 && shown->problem[0] == '\0')
		snprintf(shown->problem, sizeof shown->problem, "%s", strerror(absent));
	if (shown->problem[0] != '\0') {
		stop_listening(p);
		shown->at[0] = '\0';
	}
	return E_OK;
}

static void
tell(const struct status_health_port *shown)
{
	if (shown->problem[0] != '\0')
		log_error(
		    "health_port_not_opened port=%u error=\"%s\"", shown->port, shown->problem);
	else if (shown->open)
		log_warn("health_port at=\"%s\" text=\"answers whoever reaches it\"", shown->at);
	else
		log_info("health_port at=\"%s\"", shown->at);
}

enum err
port_start(uint16_t number, const char *bind, struct door *door, struct status_health_port *shown,
    struct port **out)
{
	struct port *p = calloc(1, sizeof *p);
	union listen_address all[LISTEN_ADDRESSES];
	size_t n = listen_addresses(bind, number, all);
	enum err e = E_OK;

	if (p == NULL)
		return E_NOMEM;
	shown->open = n > 0 && !listen_is_loopback(&all[0]);
	door->local_only = !shown->open;
	p->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->stop_fd < 0)
		e = err_from_errno(errno);
	else if (n == 0)
		snprintf(shown->problem, sizeof shown->problem, "%.60s is no address", bind);
	else
		e = listen_everywhere(p, all, n, door, shown);
	if (e == E_OK)
		tell(shown);
	if (e == E_OK && p->count > 0)
		e = thread_start(&p->thread, "health-port", serve, p);
	if (e != E_OK || p->count == 0)
		port_stop(p);
	else
		*out = p;
	return e;
}

void
port_stop(struct port *p)
{
	if (p == NULL)
		return;
	if (p->thread.started) {
		uint64_t one = 1;

		(void)!write(p->stop_fd, &one, sizeof one);
		thread_join(&p->thread);
	}
	stop_listening(p);
	if (p->stop_fd >= 0)
		close(p->stop_fd);
	free(p);
}
