/*
 * health.c - what is open to everybody on this host: /healthz, /readyz, /metrics.
 * Whoever restarts us by the first must not do so for a disk that was slow for a
 * moment: the pipeline may be silent for a while.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/base/clock.h"
#include "agent/control/health.h"
#include "agent/control/views.h"

#define ANSWER_MS   500u /* Kubernetes gives a probe a second */
#define ASK_NS      NS_PER_S
#define PATIENCE_NS (30 * NS_PER_S)
#define PAGE_NS     NS_PER_S

static enum err
run_nothing(void *ctx, struct store *st, struct processor *p)
{
	(void)ctx;
	(void)st;
	(void)p;
	return E_OK;
}

bool
alive_is_due(const struct alive *a, uint64_t now_ns)
{
	return a->asked_ns == 0 || now_ns - a->asked_ns >= ASK_NS;
}

void
alive_note(struct alive *a, enum err answer, uint64_t now_ns)
{
	/* What was asked long ago says nothing about the time between. */
	if (a->asked_ns != 0 && now_ns - a->asked_ns >= PATIENCE_NS)
		a->silent_ns = 0;
	a->asked_ns = now_ns;
	a->last = answer;
	if (answer == E_OK)
		a->silent_ns = 0;
	else if (a->silent_ns == 0)
		a->silent_ns = now_ns;
}

bool
alive_judge(const struct alive *a, uint64_t now_ns, char *wrong, size_t cap)
{
	if (a->last == E_STATE) {
		snprintf(wrong, cap, "the agent is about to end");
		return false;
	}
	if (a->silent_ns == 0 || now_ns - a->silent_ns < PATIENCE_NS)
		return true;
	snprintf(wrong, cap, "the agent's pipeline has not answered for %" PRIu64 " s",
	    (now_ns - a->silent_ns) / NS_PER_S);
	return false;
}

static void
ask_when_due(struct door *door, uint64_t now_ns)
{
	const struct agent_view *v = &door->options->view;

	if (alive_is_due(&door->alive, now_ns))
		alive_note(&door->alive, v->query(v->agent, run_nothing, NULL, ANSWER_MS), now_ns);
}

/* True: whatever the agent does goes through its pipeline, and that answers. */
static bool
agent_works(struct door *door, char *wrong, size_t cap)
{
	uint64_t now = clock_mono_ns();

	ask_when_due(door, now);
	return alive_judge(&door->alive, now, wrong, cap);
}

static int
answer(const struct request *r, struct outbuf *out, bool live)
{
	const struct agent_view *v = &r->door->options->view;
	struct status_health *h = calloc(1, sizeof *h);
	bool yes = false;
	enum err rv = E_NOMEM;

	if (h != NULL) {
		v->health(v->agent, h);
		if (live && !agent_works(r->door, h->wrong, sizeof h->wrong))
			h->healthy = false;
		yes = live ? h->healthy : h->ready;
		rv = view_health(h, out);
	}
	free(h);
	return rv != E_OK ? refuse(out, 503, err_text(rv)) : yes ? 200 : 503;
}

int
get_healthz(const struct request *r, struct outbuf *out)
{
	return answer(r, out, true);
}

int
get_readyz(const struct request *r, struct outbuf *out)
{
	return answer(r, out, false);
}

/*
 * One page a second for all who ask.  While the pipeline is busy the port's only
 * thread does not wait with it: a probe of our life may be the next to ask.
 */
int
get_metrics(const struct request *r, struct outbuf *out)
{
	struct door *door = r->door;
	const struct agent_view *v = &door->options->view;
	struct page *page = &door->page;
	uint64_t now = clock_mono_ns();
	enum err rv;

	if (page->text.n == 0 || now - page->made_ns >= PAGE_NS) {
		outbuf_free(&page->text);
		if (door->open_only)
			ask_when_due(door, now);
		if (door->open_only && door->alive.last != E_OK)
			return refuse(out, 503, "the agent is busy");
		rv = v->metrics(v->agent, &page->text);
		if (rv != E_OK) {
			outbuf_free(&page->text);
			return refuse(out, 503, err_text(rv));
		}
		page->made_ns = now;
	}
	outbuf_put(out, page->text.p, page->text.n);
	return out->failed ? refuse(out, 503, "out of memory") : 200;
}
