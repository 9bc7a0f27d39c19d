/*
 * control.h - HTTP/1.1 with JSON on an owner-only Unix socket in the run
 * directory, and, when asked for, health on a TCP port.  A thread each, asleep
 * without a timer while nobody asks.  Routes are a table (routes.c); what they
 * answer comes from views.h through the agent_view that the service gives.
 */
#pragma once

#include "agent/core/spanview.h"
#include "agent/core/status.h"

struct control;

struct control_options {
	const char *run_dir; /* the socket is run_dir/RUN_CONTROL_NAME, 0600 */
	struct agent_view view;
	struct span_defaults defaults; /* borrowed until control_free */
	uint16_t port;                 /* of health, 0: none */
	/* An address, at which all are answered who reach it; NULL: loopback, under its own names.
	 * Borrowed until control_free. */
	const char *bind;
};

MUST_CHECK enum err control_new(const struct control_options *o, struct control **out);
/* E_BUSY: somebody listens at the socket; a stale one is replaced. A port that cannot be had is
 * told in the log and the status. */
MUST_CHECK enum err control_start(struct control *c);
/* The socket's name is gone: a new one, once those who were answered are served. */
MUST_CHECK enum err control_listen_again(struct control *c);
void control_stop(struct control *c); /* idempotent; legal before start */
void control_free(struct control *c);
