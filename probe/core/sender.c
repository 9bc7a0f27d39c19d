/*
 * sender.c - the sender thread.  One poll loop: connect, say hello, learn
 * where to resume, keep a few batches on the way, release what is stored.
 * It sleeps without a timer while there is nothing to send and no span open,
 * gathers while there is, and backs off while nobody listens.
 *
 * Always true: `resume` is what the collector has said it holds; the ring's
 * acknowledged position never passes it, nor goes back.
 */
#include "probe/core/sender.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "probe/core/batch.h"
#include "probe/core/hooks.h"
#include "probe/core/ident.h"
#include "probe/core/link.h"
#include "probe/core/off.h"
#include "probe/core/probe.h"
#include "probe/core/state.h"

#define GATHER_NS      (100 * NS_PER_MS)
#define BEAT_NS        NS_PER_S
#define GREET_NS       (10 * NS_PER_S) /* handshake and the answer to hello */
#define REPLY_NS       (60 * NS_PER_S) /* a collector at its cap may take long */
#define BACKOFF_MIN_NS (100 * NS_PER_MS)
#define BACKOFF_MAX_NS (5 * NS_PER_S)
#define IDLE_TRIES     10  /* connections tried with nothing to send */
#define WINDOW         16u /* batches on the way: what the collector stores and what it waits for */
#define STACK_BYTES    (256u * 1024)
#define STOP_SPARE_NS  NS_PER_S
#define EXAMINE_NS     NS_PER_S
#define HOLE_CHECK_NS  (250 * NS_PER_MS)
#define FOREVER        UINT64_MAX

enum line { LINE_DOWN, LINE_SHAKE, LINE_HELLO, LINE_UP };

struct sender {
	pthread_t thread;
	struct ring *ring;
	const struct own_fd *wake; /* heard by the thread */
	const char *run_dir;
	const uint8_t *attrs;
	uint32_t attrs_bytes;
	uint8_t *out; /* FRAME_MAX_BYTES */
	struct batch_reader reader;
	struct link link;

	enum line line;
	uint64_t line_until; /* the peer must have spoken by then */
	uint64_t retry_at, backoff;
	unsigned tries;
	uint64_t next;         /* first position not on its way */
	uint64_t ends[WINDOW]; /* of the batches on their way, oldest first */
	unsigned on_way;
	uint64_t told;         /* up to there the ring tells of the hooks */
	unsigned stale;        /* refusals still to come for batches behind a refused one */
	uint64_t gather_until; /* FOREVER: not gathering */
	uint64_t examine_at;
	bool waiting_for_writer; /* the rest of the ring is not published yet */
	bool closed;             /* nobody will ever take the rest of the ring */

	atomic_bool stop, ended;
	_Atomic uint64_t stop_at;
};

/* Of this process, for any thread; a thread that reads figures never meets freed memory. */
static _Atomic uint64_t batches, reconnects;
static atomic_bool connected;
/* Whose socket a forked child has to close: set before the thread begins, until it has ended. */
static _Atomic(struct sender *) working;

static uint64_t
head_of(const struct sender *s)
{
	return atomic_load_explicit(s->ring->head, memory_order_seq_cst);
}

static uint64_t
acked_of(const struct sender *s)
{
	return atomic_load_explicit(s->ring->acked, memory_order_relaxed);
}

static void
line_drop(struct sender *s, uint64_t now)
{
	uint64_t spread = s->backoff / 2;

	if (s->line == LINE_UP)
		atomic_fetch_add(&reconnects, 1);
	link_close(&s->link);
	atomic_store(&connected, false);
	s->line = LINE_DOWN;
	s->on_way = s->stale = 0;
	s->retry_at = now + spread + comfymon_random_id() % (spread + 1);
	s->backoff = s->backoff * 2 < BACKOFF_MAX_NS ? s->backoff * 2 : BACKOFF_MAX_NS;
	s->tries++;
}

static void
line_try(struct sender *s, uint64_t now)
{
	if (link_open(&s->link, s->run_dir) != 0) {
		line_drop(s, now);
		return;
	}
	s->line = LINE_SHAKE;
	s->line_until = now + GREET_NS;
}

static void
say_hello(struct sender *s)
{
	struct wire_hello h = {
		.pid = s->ring->pid,
		.start_ticks = s->ring->start_ticks,
		.acknowledged = acked_of(s),
		.head = head_of(s),
		.attrs = s->attrs,
		.attrs_bytes = s->attrs_bytes,
	};

	memcpy(h.probe_id, s->ring->probe_id, sizeof h.probe_id);
	memcpy(h.boot_id, s->ring->boot_id, sizeof h.boot_id);
	ident_clock_pair(&h.mono_ns, &h.real_ns);
	link_send(&s->link, s->out, wire_hello_put(s->out, FRAME_MAX_BYTES, &h));
	s->line = LINE_HELLO;
}

static void
release(struct sender *s, uint64_t end)
{
	if (end > acked_of(s))
		atomic_store_explicit(s->ring->acked, end, memory_order_release);
}

/* Everything that was on the way begins again at `from`. */
static void
rewind_to(struct sender *s, uint64_t from)
{
	s->next = from;
	s->on_way = 0;
}

static void
forget_stored(struct sender *s, uint64_t end)
{
	unsigned gone = 0;

	while (gone < s->on_way && s->ends[gone] <= end)
		gone++;
	s->on_way -= gone;
	memmove(s->ends, s->ends + gone, s->on_way * sizeof s->ends[0]);
}

/* Another collector knows nothing of our hooks, and the same one does not mind; what it has not
 * stored yet of the last time comes to it anyway. */
static void
tell_hooks(struct sender *s)
{
	if (acked_of(s) < s->told)
		return;
	hooks_tell(s->ring);
	s->told = head_of(s);
}

/* The collector's word.  -1 when it cannot be true. */
static int
heed(struct sender *s, const struct wire_stored *w, uint64_t now)
{
	if (memcmp(w->probe_id, s->ring->probe_id, sizeof w->probe_id) != 0)
		return -1;
	if (s->line == LINE_HELLO && w->status == STORED_CLOSED) {
		s->closed = true;
		return -1;
	}
	/* An end inside a word is no end of a record, and words there would be read in two. */
	if (w->end > head_of(s) || w->end % 8 != 0)
		return -1;
	if (s->line == LINE_HELLO) {
		release(s, w->end);
		rewind_to(s, w->end);
		s->line = LINE_UP;
		s->tries = 0;
		s->backoff = BACKOFF_MIN_NS;
		atomic_store(&connected, true);
		tell_hooks(s);
		return 0;
	}
	s->line_until = now + REPLY_NS;
	switch (w->status) {
	case STORED_WANTED:
		if (s->stale > 0) {
			s->stale--;
			return 0;
		}
		s->stale = s->on_way > 0 ? s->on_way - 1 : 0;
		release(s, w->end);
		rewind_to(s, w->end);
		return 0;
	case STORED_OK:
	case STORED_MALFORMED:
		if (w->end > s->next)
			return -1;
		s->stale = 0;
		release(s, w->end);
		forget_stored(s, w->end);
		return 0;
	default:
		return -1;
	}
}

static int
hear(struct sender *s, uint64_t now)
{
	struct wire_stored w;
	struct wire_error err;
	const uint8_t *body;
	size_t n;
	int rv = link_fill(&s->link), more;

	if (s->link.shaken && s->line == LINE_SHAKE)
		say_hello(s);
	while ((more = link_next(&s->link, &body, &n)) == 1) {
		/* Frames of a kind that we do not know are a newer collector's. */
		if (n >= 4 && memcmp(body, STORED_MAGIC, 4) == 0) {
			if (s->line < LINE_HELLO || wire_stored_get(body, n, &w, &err) != 0 ||
			    heed(s, &w, now) != 0)
				return -1;
		}
		link_drop(&s->link, n);
	}
	return rv < 0 || more < 0 ? -1 : 0;
}

/* Something worth a batch: a pause is over, much has come, or the end is near. */
static bool
due(struct sender *s, uint64_t now)
{
	uint64_t head = head_of(s);

	if (s->next >= head)
		return false;
	if (s->waiting_for_writer)
		return now >= s->gather_until;
	return atomic_load(&s->stop) || now >= s->gather_until ||
	       head - s->next >= FRAME_BATCH_MAX_BYTES ||
	       head - acked_of(s) >= s->ring->area_bytes / 4;
}

static void
pack(struct sender *s, uint64_t now)
{
	uint64_t end;
	size_t n;

	while (link_idle(&s->link) && s->on_way < WINDOW && due(s, now)) {
		n = batch_pack(&s->reader, s->next, now, s->out, &end);
		s->waiting_for_writer = n == 0;
		if (n == 0) {
			s->gather_until = now + HOLE_CHECK_NS;
			return;
		}
		if (s->on_way == 0)
			s->line_until = now + REPLY_NS;
		s->gather_until = FOREVER; /* what has come since gathers anew */
		s->ends[s->on_way++] = end;
		s->next = end;
		link_send(&s->link, s->out, n);
		atomic_fetch_add(&batches, 1);
		if (link_flush(&s->link) != 0) {
			line_drop(s, now);
			return;
		}
	}
}

/* The peer has to answer, or to read on, before its time is over. */
static bool
awaits_peer(const struct sender *s)
{
	return s->line == LINE_SHAKE || s->line == LINE_HELLO ||
	       (s->line == LINE_UP && (s->on_way > 0 || !link_idle(&s->link)));
}

/*
 * When to wake at the latest, and from which head on writers shall wake us.
 * The head is read again after wake_at is set: a record that came in between
 * is seen here or its writer sees wake_at.
 */
static uint64_t
plan_sleep(struct sender *s, uint64_t now)
{
	uint64_t until = FOREVER, wake = RING_WAKE_NEVER, head = head_of(s);
	bool room = s->line == LINE_UP && s->on_way < WINDOW && link_idle(&s->link);

	if (s->line == LINE_DOWN && (acked_of(s) < head || s->tries < IDLE_TRIES))
		until = s->retry_at;
	if (acked_of(s) >= head || (room && s->next >= head))
		wake = head + 1;
	if (awaits_peer(s))
		until = s->line_until;
	if (room && s->next < head) {
		if (s->gather_until == FOREVER)
			s->gather_until = now + GATHER_NS;
		until = s->gather_until < until ? s->gather_until : until;
		wake =
		    s->waiting_for_writer ? RING_WAKE_NEVER : acked_of(s) + s->ring->area_bytes / 4;
	}
	if ((open_used(&probe.open) > 0 || acked_of(s) < head) && now + BEAT_NS < until)
		until = now + BEAT_NS;
	if (atomic_load(&s->stop) && atomic_load(&s->stop_at) < until)
		until = atomic_load(&s->stop_at);
	atomic_store(&s->ring->wake_at, wake);
	if (head_of(s) >= wake || (room && due(s, now)))
		until = now;
	return until;
}

static void
sleep_until(struct sender *s, uint64_t until, uint64_t now)
{
	/* While it gathers, an answer can wait as long: one wake-up less for each batch. */
	bool deaf = until == s->gather_until && until != FOREVER && link_idle(&s->link);
	struct pollfd p[2] = {
		{ .fd = own_get(s->wake), .events = POLLIN },
		{ .fd = deaf ? -1 : own_get(&s->link.fd), .events = POLLIN },
	};
	struct timespec t;
	uint64_t ns = until > now ? until - now : 0;
	char bytes[64];

	if (p[1].fd >= 0 && !link_idle(&s->link))
		p[1].events |= POLLOUT;
	t.tv_sec = (time_t)(ns / NS_PER_S);
	t.tv_nsec = (long)(ns % NS_PER_S);
	(void)ppoll(p, 2, until == FOREVER ? NULL : &t, NULL);
	atomic_store(&s->ring->wake_at, RING_WAKE_NEVER);
	if (p[0].revents != 0 && own_get(s->wake) >= 0)
		(void)!recv(p[0].fd, bytes, sizeof bytes, MSG_DONTWAIT);
}

static bool
finished(struct sender *s, uint64_t now)
{
	return atomic_load(&s->stop) &&
	       (acked_of(s) == head_of(s) || now >= atomic_load(&s->stop_at));
}

/* Can we be woken, does anybody want the ring, and, once a second at most, is it what we think? */
static bool
all_is_sound(struct sender *s, uint64_t now)
{
	const char *fault = NULL;

	if (own_get(s->wake) < 0)
		fault = "the host closed the sender's descriptor";
	else if (s->closed)
		fault =
		    "the collector has closed the ring: its lock was lost, as of a dead process";
	else if (now >= s->examine_at) {
		s->examine_at = now + EXAMINE_NS;
		fault = ring_fault(s->ring);
	}
	if (fault != NULL)
		off_turn("%s", fault);
	return fault == NULL;
}

static void *
work(void *arg)
{
	struct sender *s = arg;
	uint64_t now = comfymon_now_ns();

	while (!finished(s, now) && all_is_sound(s, now)) {
		atomic_store_explicit(s->ring->beat, now, memory_order_relaxed);
		if (s->line == LINE_DOWN && now >= s->retry_at &&
		    (acked_of(s) < head_of(s) || s->tries < IDLE_TRIES))
			line_try(s, now);
		if (s->line != LINE_DOWN && (hear(s, now) != 0 || link_flush(&s->link) != 0 ||
						(awaits_peer(s) && now >= s->line_until)))
			line_drop(s, now);
		if (s->line == LINE_UP)
			pack(s, now);
		if (!finished(s, now)) /* the last reply may just have come */
			sleep_until(s, plan_sleep(s, now), now);
		now = comfymon_now_ns();
	}
	link_close(&s->link);
	atomic_store(&connected, false);
	atomic_store(&s->ended, true);
	return NULL;
}

static int
start_thread(struct sender *s)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int rv;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rv = pthread_create(&s->thread, &attr, work, s);
	if (rv != 0) /* a host with large thread-local storage needs the default size */
		rv = pthread_create(&s->thread, NULL, work, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (rv == 0)
		pthread_setname_np(s->thread, "comfymon-send");
	return rv;
}

struct sender *
sender_start(struct ring *r, struct arena *arena, const struct own_fd *wake, const char *run_dir,
    const uint8_t *attrs, uint32_t attrs_bytes)
{
	struct sender *s = calloc(1, sizeof *s);

	if (s == NULL || (s->out = malloc(FRAME_MAX_BYTES)) == NULL) {
		free(s);
		return NULL;
	}
	s->ring = r;
	s->wake = wake;
	s->run_dir = run_dir;
	s->attrs = attrs;
	s->attrs_bytes = attrs_bytes;
	s->backoff = BACKOFF_MIN_NS;
	s->gather_until = FOREVER;
	own_set(&s->link.fd, -1);
	batch_reader_init(&s->reader, r, arena);
	atomic_store(&batches, 0);
	atomic_store(&reconnects, 0);
	atomic_store(&working, s);
	if (start_thread(s) == 0)
		return s;
	atomic_store(&working, NULL);
	free(s->out);
	free(s);
	return NULL;
}

void
sender_stop(struct sender *s, uint32_t timeout_ms)
{
	uint64_t until = comfymon_now_ns() + timeout_ms * NS_PER_MS;

	atomic_store(&s->stop_at, until);
	atomic_store(&s->stop, true);
	ring_rouse(s->ring);
	/* No timed join: it waits on a clock that may be set. */
	while (!atomic_load(&s->ended) && comfymon_now_ns() < until + STOP_SPARE_NS)
		nanosleep(&(struct timespec){ .tv_nsec = NS_PER_MS / 2 }, NULL);
	if (!atomic_load(&s->ended)) {
		/* Asleep on a descriptor that the host has closed: it stays so, and is no one's. */
		pthread_detach(s->thread);
		return;
	}
	pthread_join(s->thread, NULL);
	atomic_store(&working, NULL);
	free(s->out);
	free(s);
}

void
sender_forked(void)
{
	struct sender *s = atomic_exchange(&working, NULL);

	atomic_store(&connected, false);
	if (s != NULL)
		link_close(&s->link);
}

void
sender_figures(uint64_t *batches_sent, uint64_t *times_reconnected, bool *is_connected)
{
	*batches_sent = atomic_load(&batches);
	*times_reconnected = atomic_load(&reconnects);
	*is_connected = atomic_load(&connected);
}
