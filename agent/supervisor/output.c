/*
 * output.c - two streams and a tail.  See output.h.
 */
#include "agent/supervisor/output.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"

#define LEFT_MS  20 /* a grandchild that never stops writing must not hold the verdict back */
#define STILL_MS 50

void
tail_add(struct tail *t, const char *p, size_t n)
{
	if (n > OUTPUT_TAIL_BYTES) {
		p += n - OUTPUT_TAIL_BYTES;
		n = OUTPUT_TAIL_BYTES;
	}

	size_t first = n < OUTPUT_TAIL_BYTES - t->at ? n : OUTPUT_TAIL_BYTES - t->at;

	memcpy(t->bytes + t->at, p, first);
	memcpy(t->bytes, p + first, n - first);
	t->at = (t->at + n) % OUTPUT_TAIL_BYTES;
	t->used = t->used + n < OUTPUT_TAIL_BYTES ? t->used + n : OUTPUT_TAIL_BYTES;
}

size_t
tail_text(const struct tail *t, char *out, size_t cap)
{
	size_t start = (t->at + OUTPUT_TAIL_BYTES - t->used) % OUTPUT_TAIL_BYTES, skip = 0, n;

	/* What was overwritten may have begun in the middle of a line. */
	if (t->used == OUTPUT_TAIL_BYTES) {
		while (skip < t->used && t->bytes[(start + skip) % OUTPUT_TAIL_BYTES] != '\n')
			skip++;
		skip = skip < t->used ? skip + 1 : 0;
	}
	n = t->used - skip;
	if (n > cap) {
		skip += n - cap;
		n = cap;
	}
	for (size_t i = 0; i < n; i++)
		out[i] = t->bytes[(start + skip + i) % OUTPUT_TAIL_BYTES];
	return n;
}

void
output_init(struct output *o)
{
	memset(o, 0, sizeof *o);
	for (int i = 0; i < OUTPUT_STREAMS; i++)
		o->streams[i].from = o->streams[i].to = -1;
}

void
output_add(struct output *o, int from, int to)
{
	int own = file_terminal(to);

	for (int i = 0; i < OUTPUT_STREAMS; i++) {
		if (o->streams[i].from >= 0)
			continue;
		o->streams[i] =
		    (struct stream){ .from = from, .to = own >= 0 ? own : to, .own = own >= 0 };
		return;
	}
	if (own >= 0)
		close(own);
	close(from);
}

void
output_poll(const struct output *o, struct pollfd *fds)
{
	for (int i = 0; i < OUTPUT_STREAMS; i++) {
		const struct stream *s = &o->streams[i];
		bool waits = s->done < s->used;

		fds[i] = (struct pollfd){ .fd = waits ? s->to : s->from,
			.events = waits ? POLLOUT : POLLIN };
	}
}

static void
end_stream(struct stream *s)
{
	if (s->from >= 0)
		close(s->from);
	if (s->own)
		close(s->to);
	s->own = false;
	s->from = s->to = -1;
	s->used = s->done = 0;
}

static void
take(struct output *o, struct stream *s)
{
	ssize_t n = read(s->from, s->pending, sizeof s->pending);

	if (n > 0) {
		s->used = (size_t)n;
		s->done = 0;
		tail_add(&o->tail, s->pending, s->used);
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		end_stream(s); /* the last writer has gone (a pty says EIO) */
	}
}

static void
give(struct stream *s)
{
	/* One write of at most a pipe's atomic size: poll said that so much goes without waiting.
	 */
	size_t left = s->used - s->done, piece = left < 4096 ? left : 4096;
	ssize_t n = write(s->to, s->pending + s->done, piece);

	if (n > 0)
		s->done += (size_t)n;
	else if (n < 0 && errno != EINTR && errno != EAGAIN)
		s->done = s->used; /* nobody reads any more; the tail goes on */
}

void
output_move(struct output *o, const struct pollfd *fds)
{
	for (int i = 0; i < OUTPUT_STREAMS; i++) {
		struct stream *s = &o->streams[i];

		if (s->from < 0 || fds[i].revents == 0)
			continue;
		if (s->done < s->used)
			give(s);
		else
			take(o, s);
	}
}

/* Until nothing moves for still_ms, nobody writes any more, or the time is over. */
static void
move_until(struct output *o, uint64_t end_ns, int still_ms)
{
	struct pollfd fds[OUTPUT_STREAMS];

	while ((o->streams[0].from >= 0 || o->streams[1].from >= 0) && clock_mono_ns() < end_ns) {
		output_poll(o, fds);
		if (poll(fds, OUTPUT_STREAMS, still_ms) <= 0)
			break; /* a grandchild may hold the pipe open for ever */
		output_move(o, fds);
	}
}

void
output_take_left(struct output *o)
{
	move_until(o, clock_mono_ns() + LEFT_MS * NS_PER_MS, 0);
}

void
output_drain(struct output *o, int wait_ms)
{
	move_until(o, clock_mono_ns() + (uint64_t)wait_ms * NS_PER_MS, STILL_MS);
	for (int i = 0; i < OUTPUT_STREAMS; i++)
		end_stream(&o->streams[i]);
}
