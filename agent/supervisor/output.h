/*
 * output.h - what the supervised process writes goes on to where it would have
 * gone, and its last 64 KiB are kept for the black box.  Main thread; a
 * destination that does not take holds the process back as it would have done
 * without us, never the supervisor.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>

#include "agent/base/err.h"

#define OUTPUT_TAIL_BYTES 65536u
#define OUTPUT_STREAMS    2

/* The newest bytes, oldest first out. */
struct tail {
	size_t used, at; /* at: where the next byte goes */
	char bytes[OUTPUT_TAIL_BYTES];
};

void tail_add(struct tail *t, const char *p, size_t n);
/* Copy from the first whole line on (all when there is none) to out[0..cap); its length. */
size_t tail_text(const struct tail *t, char *out, size_t cap);

struct stream {
	int from, to; /* from: -1 not used */
	bool own;     /* `to` is to be closed */
	size_t used, done;
	char pending[8192]; /* read, not yet written: [done, used) */
};

struct output {
	struct stream streams[OUTPUT_STREAMS];
	struct tail tail;
};

void output_init(struct output *o);
/* Copy from `from` (taken over) to `to` (borrowed; of a terminal we open a description of our own).
 */
void output_add(struct output *o, int from, int to);
/* Fill fds[0..OUTPUT_STREAMS) for poll, and move bytes after it. */
void output_poll(const struct output *o, struct pollfd *fds);
void output_move(struct output *o, const struct pollfd *fds);
/* The process has ended: take what it left in the pipes as far as that goes without waiting. */
void output_take_left(struct output *o);
/* Take the rest of those that it leaves behind, for at most wait_ms, and close. */
void output_drain(struct output *o, int wait_ms);
