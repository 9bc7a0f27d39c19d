/*
 * soft.c - see soft.h.
 */
#include "agent/supervisor/soft.h"

/* `least` doubled n times, up to `most`. */
static uint64_t
doubled(uint64_t least, uint32_t n, uint64_t most)
{
	uint64_t ms = n < 32 ? least << n : most;

	return ms < most ? ms : most;
}

static enum soft_act
go(struct soft *s, enum soft_state state, uint64_t due_ms, enum soft_act act)
{
	s->state = state;
	s->due_ms = due_ms;
	return act;
}

/* Nothing more until the next freeing may come. */
static enum soft_act
rest(struct soft *s)
{
	uint32_t before = s->frees_in_row > 0 ? s->frees_in_row - 1 : 0;

	s->never_idle = false;
	return go(s, SOFT_CALM, s->freed_ms + doubled(SOFT_REST_MS, before, SOFT_REST_MAX_MS),
	    SOFT_NOTHING);
}

static bool
may_restart(const struct soft *s, uint64_t now_ms)
{
	if (s->never_restart)
		return false;
	return s->restarts_in_row == 0 ||
	       now_ms - s->restarted_ms >=
		   doubled(SOFT_LIFE_MS, s->restarts_in_row - 1, SOFT_LIFE_MAX_MS);
}

enum soft_act
soft_look(struct soft *s, bool over, uint64_t now_ms)
{
	switch (s->state) {
	case SOFT_CALM:
		if (!over && s->frees_in_row > 0 && now_ms - s->freed_ms >= SOFT_QUIET_MS)
			s->frees_in_row = s->restarts_in_row = 0;
		if (!over)
			s->busy = 0;
		if (!over || now_ms < s->due_ms)
			return SOFT_NOTHING;
		return go(
		    s, SOFT_FREEING, 0, s->busy >= SOFT_PATIENCE ? SOFT_FREE_NEXT : SOFT_FREE);
	case SOFT_SETTLING:
		if (now_ms < s->due_ms)
			return SOFT_NOTHING;
		if (!over || !may_restart(s, now_ms))
			return rest(s);
		return go(s, SOFT_DRAINING, 0, s->never_idle ? SOFT_DRAIN_JOB : SOFT_DRAIN);
	default: /* an answer is awaited */
		return SOFT_NOTHING;
	}
}

static enum soft_act
freed(struct soft *s, enum drain_answer answer, uint64_t now_ms)
{
	bool between = s->busy >= SOFT_PATIENCE;

	if (answer != DRAIN_DONE) {
		s->busy += answer == DRAIN_BUSY;
		return go(s, SOFT_CALM, now_ms + SOFT_AGAIN_MS, SOFT_NOTHING);
	}
	s->busy = 0;
	s->freed_ms = now_ms;
	s->frees++;
	s->frees_in_row++;
	return go(
	    s, SOFT_SETTLING, now_ms + (between ? SOFT_BETWEEN_MS : SOFT_SETTLE_MS), SOFT_NOTHING);
}

static enum soft_act
drained(struct soft *s, enum drain_answer answer, bool over, uint64_t now_ms)
{
	if (!over)
		return rest(s);
	if (answer != DRAIN_DONE) { /* waits on */
		s->never_idle = s->never_idle || answer == DRAIN_BUSY;
		return go(s, SOFT_SETTLING, now_ms + SOFT_AGAIN_MS, SOFT_NOTHING);
	}
	s->restarted_ms = now_ms;
	s->restarts++;
	s->restarts_in_row++;
	return go(s, SOFT_ENDING, 0, SOFT_RESTART);
}

enum soft_act
soft_answer(struct soft *s, enum drain_answer answer, bool over, uint64_t now_ms)
{
	if (s->state == SOFT_FREEING)
		return freed(s, answer, now_ms);
	return s->state == SOFT_DRAINING ? drained(s, answer, over, now_ms) : SOFT_NOTHING;
}

void
soft_begin(struct soft *s)
{
	s->state = SOFT_CALM;
	s->due_ms = 0;
	s->busy = 0;
	s->never_idle = false;
}

const char *
soft_state_name(enum soft_state state)
{
	static const char *const names[] = { "calm", "freeing", "settling", "draining", "ending" };

	return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}
