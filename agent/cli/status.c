/*
 * status.c - `comfymon status`: one screen.  What came from outside goes through
 * term_put.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/clock.h"
#include "agent/cli/cli.h"
#include "agent/cli/members.h"

#define LABEL       13 /* columns of the left margin */
#define PROBES_MOST 8u

struct page {
	struct term t;
	json_t *root;
};

static uint64_t
number(json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static const char *
state_style(const char *state)
{
	if (strcmp(state, "ok") == 0)
		return "green";
	return strcmp(state, "degraded") == 0 || strcmp(state, "hold") == 0 ? "red" : "yellow";
}

static void
styled(const struct page *p, const char *style, const char *s)
{
	fputs(term_style(&p->t, style), p->t.f);
	term_put(&p->t, s, -1);
	fputs(term_style(&p->t, "off"), p->t.f);
}

/* The left margin: a bold word, or blanks. */
static void
label(const struct page *p, const char *s)
{
	styled(p, "bold", s);
	term_pad(&p->t, LABEL - (int)strlen(s));
}

/* The rest of a line, in as many as it takes; `used` columns are taken. */
static void line(const struct page *p, int used, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
line(const struct page *p, int used, const char *format, ...)
{
	char buf[1024];
	va_list ap;
	int lead;

	va_start(ap, format);
	vsnprintf(buf, sizeof buf, format, ap);
	va_end(ap);
	lead = (int)strspn(buf, " ");
	term_pad(&p->t, lead);
	term_wrap_from(&p->t, buf + lead, LABEL + 2, used + lead);
}

/* "ring_full 3, torn 1" of an object of numbers. */
static void
reasons(json_t *o, char *buf, size_t cap)
{
	const char *key;
	size_t n = 0;
	json_t *v;

	buf[0] = '\0';
	json_object_foreach(o, key, v)
	{
		int k = snprintf(buf + n, cap - n, "%s%s %" JSON_INTEGER_FORMAT, n > 0 ? ", " : "",
		    key, json_integer_value(v));

		if (k < 0 || (size_t)k >= cap - n)
			break;
		n += (size_t)k;
	}
}

static uint64_t
sum(json_t *o)
{
	const char *key;
	uint64_t total = 0;
	json_t *v;

	json_object_foreach(o, key, v) total += (uint64_t)json_integer_value(v);
	return total;
}

static void
print_spans(const struct page *p)
{
	json_t *s = json_object_get(json_object_get(p->root, "signals"), "trace");
	json_t *dropped = json_object_get(s, "dropped"), *rejected = json_object_get(s, "rejected");
	bool holds = json_is_true(json_object_get(s, "identity"));
	char a[32], b[32], c[32], d[32], list[400];

	label(p, "spans");
	line(p, LABEL, "%s received = %s sent + %s sampled out",
	    term_count(number(s, "received"), a, sizeof a),
	    term_count(number(s, "sent"), b, sizeof b),
	    term_count(number(s, "sampled_out"), c, sizeof c));
	label(p, "");
	fprintf(p->t.f, "+ %s queued + %s in flight + %s dropped + %s rejected: ",
	    term_count(number(s, "queued"), a, sizeof a),
	    term_count(number(s, "in_flight"), b, sizeof b), term_count(sum(dropped), c, sizeof c),
	    term_count(sum(rejected), d, sizeof d));
	styled(p, holds ? "green" : "red", holds ? "holds" : "DOES NOT HOLD");
	fputc('\n', p->t.f);
	if (json_object_size(dropped) > 0) {
		reasons(dropped, list, sizeof list);
		label(p, "");
		line(p, LABEL, "dropped: %s", list);
	}
	if (json_object_size(rejected) > 0) {
		reasons(rejected, list, sizeof list);
		label(p, "");
		line(p, LABEL, "rejected: %s", list);
	}
}

static void
print_rates(const struct page *p)
{
	json_t *r = json_object_get(p->root, "rates"), *store = json_object_get(p->root, "store");
	json_t *s = json_object_get(json_object_get(p->root, "signals"), "trace");
	uint64_t oldest = number(store, "oldest_queued_s"), queued = number(s, "queued");
	uint64_t open = number(json_object_get(p->root, "work"), "open_spans");
	char ago[32], count[32], running[64] = "";

	if (number(r, "window_ms") > 0) {
		label(p, "rates");
		line(p, LABEL, "%.1f spans/s in, %.1f spans/s out, over the last %s",
		    json_number_value(json_object_get(r, "received_per_s")),
		    json_number_value(json_object_get(r, "sent_per_s")),
		    term_ago((double)number(r, "window_ms") / 1000, ago, sizeof ago));
	}
	label(p, "queue");
	if (open > 0)
		snprintf(running, sizeof running, "; %s running now",
		    term_count(open, count, sizeof count));
	if (queued == 0)
		line(p, LABEL, "empty%s", running);
	else
		line(p, LABEL, "%s spans, the oldest waits for %s%s",
		    term_count(queued, count, sizeof count),
		    term_ago((double)oldest, ago, sizeof ago), running);
}

/* "3 s" from a moment of the clock to now, or the other way round. */
static const char *
away(uint64_t ns, char *buf, size_t cap)
{
	uint64_t now = clock_real_ns();

	return term_ago((double)(now > ns ? now - ns : ns - now) / 1e9, buf, cap);
}

static void
print_destination(const struct page *p, json_t *d, bool first)
{
	uint64_t last_ok = number(d, "last_ok_ns"), next = number(d, "next_try_ns"),
		 status = number(d, "last_status"), queued = number(d, "queued"),
		 oldest = number(d, "oldest_queued_s");
	const char *state = text_of(d, "state"), *error = text_of(d, "last_error");
	char ago[32], count[32], reply[48] = "", when[64] = "";
	int name = (int)strlen(text_of(d, "name"));

	if (strcmp(state, "unknown") == 0)
		state = "not tried yet";
	label(p, first ? "destinations" : "");
	fprintf(p->t.f, "%s ", text_of(d, "name"));
	styled(p, state_style(state), state);
	line(p, LABEL + name + 2 + (int)strlen(state), ", %s", text_of(d, "url"));
	if (status != 0)
		snprintf(reply, sizeof reply, "last reply %" PRIu64 ", ", status);
	if (last_ok != 0)
		snprintf(
		    when, sizeof when, "last success %s ago, ", away(last_ok, ago, sizeof ago));
	label(p, "");
	line(p, LABEL, "  %s%s%s spans sent", reply, when,
	    term_count(number(d, "sent_spans"), count, sizeof count));
	if (queued > 0) {
		label(p, "");
		line(p, LABEL, "  %s chunk%s waiting, the oldest for %s",
		    term_count(queued, count, sizeof count), queued == 1 ? "" : "s",
		    term_ago((double)oldest, ago, sizeof ago));
	}
	if (error[0] != '\0') {
		label(p, "");
		line(p, LABEL, "  %s%s%s", error, next > clock_real_ns() ? ", next try in " : "",
		    next > clock_real_ns() ? away(next, ago, sizeof ago) : "");
	}
	if (strcmp(state, "local") == 0) {
		label(p, "");
		line(p, LABEL,
		    "  never reached, and only the default: DD_TRACE_AGENT_URL says where it is");
	}
}

static void
print_probe(const struct page *p, json_t *probe, bool first)
{
	bool alive = json_is_true(json_object_get(probe, "alive"));
	json_t *attrs = json_object_get(probe, "attrs"), *drops = json_object_get(probe, "drops");
	const char *python = text_of(attrs, "language_version");
	char count[32], list[200], ago[32];
	int used;

	label(p, first ? "probes" : "");
	used = fprintf(p->t.f, "pid %-7" PRIu64 " ", number(probe, "pid"));
	styled(p, alive ? "green" : "dim", alive ? "alive" : "gone");
	reasons(drops, list, sizeof list);
	line(p, LABEL + used + 5, "%s %s spans%s%s%s%s, seen %s ago%s%s", alive ? "," : ", ",
	    term_count(number(probe, "spans"), count, sizeof count),
	    text_of(probe, "service")[0] != '\0' ? ", " : "", text_of(probe, "service"),
	    python[0] != '\0' ? ", Python " : "", python,
	    away(number(probe, "seen_ns"), ago, sizeof ago), list[0] != '\0' ? ", lost: " : "",
	    list);
}

/* "2 running, 10,000 succeeded": those that there are. */
static void
print_jobs(const struct page *p)
{
	json_t *jobs = json_object_get(p->root, "jobs"), *db = json_object_get(p->root, "jobs_db");
	json_t *v;
	char list[400] = "", count[32];
	const char *key;
	size_t n = 0;

	if (sum(jobs) == 0)
		return;
	json_object_foreach(jobs, key, v)
	{
		int k = json_integer_value(v) == 0
			    ? 0
			    : snprintf(list + n, sizeof list - n, "%s%s %s", n > 0 ? ", " : "",
				  term_count((uint64_t)json_integer_value(v), count, sizeof count),
				  key);

		if (k < 0 || (size_t)k >= sizeof list - n)
			break;
		n += (size_t)k;
	}
	label(p, "jobs");
	line(p, LABEL, "%s", list);
	if (number(db, "behind") > 0) {
		label(p, "");
		line(p, LABEL, "  jobs.db is behind by %s%s%s",
		    term_count(number(db, "behind"), count, sizeof count),
		    text_of(db, "problem")[0] != '\0' ? ": " : "", text_of(db, "problem"));
	}
}

static void
print_webhook(const struct page *p)
{
	json_t *w = json_object_get(p->root, "webhook");
	const char *state = text_of(w, "state"), *error = text_of(w, "last_error");
	uint64_t next = number(w, "next_try_ns"),
		 lost = number(w, "given_up") + number(w, "expired");
	char told[32], waiting[32], ago[32], gone[64] = "", count[32];

	if (!json_is_object(w))
		return;
	if (lost > 0)
		snprintf(gone, sizeof gone, ", %s given up", term_count(lost, count, sizeof count));
	label(p, "webhook");
	styled(p, state_style(state), state);
	line(p, LABEL + (int)strlen(state), ", %s, %s told, %s waiting%s%s", text_of(w, "target"),
	    term_count(number(w, "told"), told, sizeof told),
	    term_count(number(w, "waiting"), waiting, sizeof waiting), gone,
	    json_is_true(json_object_get(w, "signed")) ? "" : ", not signed");
	if (error[0] != '\0') {
		label(p, "");
		line(p, LABEL, "  %s%s%s", error, next > clock_real_ns() ? ", next try in " : "",
		    next > clock_real_ns() ? away(next, ago, sizeof ago) : "");
	}
}

static void
print_metrics(const struct page *p)
{
	json_t *m = json_object_get(p->root, "metrics");
	const char *error = text_of(m, "last_error");
	const char *state = number(m, "flushes") == 0 ? "unknown"
			    : error[0] != '\0'        ? "offline"
						      : "ok";
	char sent[32], list[200], ago[32], when[64] = "";

	if (!json_is_object(m))
		return;
	if (number(m, "last_ok_ns") != 0)
		snprintf(when, sizeof when, ", last success %s ago",
		    away(number(m, "last_ok_ns"), ago, sizeof ago));
	reasons(json_object_get(m, "dropped"), list, sizeof list);
	label(p, "metrics");
	styled(p, state_style(state), state);
	line(p, LABEL + (int)strlen(state), ", %s, %s datagrams sent%s%s%s", text_of(m, "target"),
	    term_count(number(m, "sent_datagrams"), sent, sizeof sent), when,
	    list[0] != '\0' ? ", dropped: " : "", list);
	if (error[0] != '\0') {
		label(p, "");
		line(p, LABEL, "  %s", error);
	}
}

/* One line a ComfyUI: how it is, and since when. */
static void
print_health(const struct page *p)
{
	json_t *all = json_object_get(json_object_get(p->root, "health"), "processes"), *o;
	size_t i;

	json_array_foreach(all, i, o)
	{
		const char *state = text_of(o, "state"), *why = text_of(o, "why");
		bool ill = strcmp(state, "well") != 0 && strcmp(state, "starting") != 0 &&
			   strcmp(state, "unknown") != 0;
		char ago[32], port[32] = "";
		int used;

		label(p, i == 0 ? "ComfyUI" : "");
		used = fprintf(p->t.f, "pid %-7" PRIu64 " ", number(o, "pid"));
		styled(p, ill ? "red" : strcmp(state, "well") == 0 ? "green" : "yellow", state);
		if (number(o, "port") != 0)
			snprintf(port, sizeof port, ", port %" PRIu64 "%s", number(o, "port"),
			    json_is_true(json_object_get(o, "tls")) ? " (TLS)" : "");
		line(p, LABEL + used + (int)strlen(state), " for %s%s%s%s%s",
		    term_ago((double)number(o, "since_s"), ago, sizeof ago), port,
		    json_is_true(json_object_get(o, "restart_asked")) ? ", restart asked for" : "",
		    why[0] != '\0' ? ": " : "", why);
	}
}

static void
print_health_port(const struct page *p)
{
	json_t *o = json_object_get(p->root, "health_port");
	const char *problem = text_of(o, "problem");

	if (number(o, "port") == 0)
		return;
	label(p, "health port");
	if (problem[0] != '\0') {
		styled(p, "red", "not open");
		line(p, LABEL + 8, ": %s", problem);
	} else {
		line(p, LABEL, "%s%s", text_of(o, "at"),
		    json_is_true(json_object_get(o, "open")) ? ", for whoever reaches it" : "");
	}
}

static void
print_head(const struct page *p)
{
	const char *state = text_of(p->root, "state"), *reason = text_of(p->root, "reason");
	char ago[32];

	label(p, "comfymon");
	styled(p, state_style(state), state);
	if (strcmp(state, "local") == 0)
		reason = "traces stay here";
	else if (strcmp(reason, "store_full") == 0)
		reason = "the disk or the buffer is full, nothing new is taken";
	else if (strcmp(reason, "volatile") == 0)
		reason = "the buffer is in memory alone";
	if (reason[0] != '\0') {
		fputs(": ", p->t.f);
		term_put(&p->t, reason, -1);
	}
	fprintf(p->t.f, ", version %s", text_of(p->root, "version"));
	if (number(p->root, "pid") != 0)
		fprintf(p->t.f, ", pid %" PRIu64 ", up %s", number(p->root, "pid"),
		    term_ago((double)number(p->root, "uptime_s"), ago, sizeof ago));
	fputc('\n', p->t.f);
}

static void
print_buffer(const struct page *p)
{
	json_t *store = json_object_get(p->root, "store");
	char a[32], b[32], c[32];

	label(p, "buffer");
	line(p, LABEL, "%s of %s, history %s%s",
	    config_size_text(number(store, "bytes"), a, sizeof a),
	    config_size_text(number(store, "cap_bytes"), b, sizeof b),
	    config_size_text(number(store, "history_bytes"), c, sizeof c),
	    json_is_true(json_object_get(store, "volatile")) ? " (volatile: in memory)" : "");
	label(p, "");
	line(p, LABEL, "in %s", text_of(p->root, "data_dir"));
	if (number(json_object_get(p->root, "upkeep"), "buffer_rewritten") > 0) {
		label(p, "");
		line(p, LABEL, "it was removed while in use, and written anew");
	}
	if (number(store, "quarantined") > 0) {
		label(p, "");
		line(p, LABEL, "%" PRIu64 " damaged files were moved aside: comfymon verify",
		    number(store, "quarantined"));
	}
}

/* "limit 64G by cgroup1, soft limit 57.6G" */
static void
limits_text(json_t *o, char *out, size_t cap)
{
	uint64_t limit = number(o, "limit_bytes"), soft = number(o, "soft_limit_bytes");
	char a[32], b[32];
	size_t n;

	n = (size_t)snprintf(out, cap, "limit %s%s%s",
	    limit > 0 ? config_size_text(limit, a, sizeof a) : "none", limit > 0 ? " by " : "",
	    limit > 0 ? text_of(o, "method") : "");
	if (soft > 0 && n < cap)
		n += (size_t)snprintf(
		    out + n, cap - n, ", soft limit %s", config_size_text(soft, b, sizeof b));
	if (number(o, "soft_frees") > 0 && n < cap)
		n += (size_t)snprintf(out + n, cap - n,
		    " (freed %" PRIu64 ", restarted %" PRIu64 ")", number(o, "soft_frees"),
		    number(o, "soft_restarts"));
	if (text_of(o, "why")[0] != '\0' && n < cap)
		snprintf(out + n, cap - n, "; no cgroup: %s", text_of(o, "why"));
}

static void
print_supervisor(const struct page *p, json_t *o, bool first)
{
	uint64_t pid = number(o, "command_pid"), ended = number(o, "ended_ns");
	char what[400], ago[32];

	label(p, first ? "supervised" : "");
	if (pid > 0)
		line(p, LABEL,
		    "pid %" PRIu64 " by comfymon run, pid %" PRIu64 ", start %" PRIu64 ", %s", pid,
		    number(o, "pid"), number(o, "starts"), text_of(o, "state"));
	else
		line(p, LABEL, "by comfymon run, pid %" PRIu64 ", which waits to start it again",
		    number(o, "pid"));
	limits_text(o, what, sizeof what);
	label(p, "");
	line(p, LABEL, "%s", what);
	if (ended == 0)
		return;
	label(p, "");
	line(p, LABEL, "ended last %s ago: %s (%s), comfymon death %s",
	    away(ended, ago, sizeof ago), text_of(o, "last_verdict"), text_of(o, "last_certainty"),
	    text_of(o, "last_death"));
}

/* RSS of each ComfyUI, and how much of it somebody answers for. */
static void
print_memory(const struct page *p, json_t *o, uint64_t host, bool first)
{
	uint64_t limit = number(o, "limit_bytes"), held = number(o, "accounted_bytes");
	uint64_t whole = held + number(o, "unaccounted_bytes");
	bool own = limit > 0 && (host == 0 || limit <= host);
	char a[32], b[32], c[32], share[64] = "";

	if (whole > 0)
		snprintf(share, sizeof share, ", %.0f %% of it accounted for",
		    (double)held / (double)whole * 100);
	label(p, first ? "memory" : "");
	line(p, LABEL, "pid %-7" PRIu64 " %s, peak %s, %s %s%s", number(o, "pid"),
	    config_size_text(number(o, "rss_bytes"), a, sizeof a),
	    config_size_text(number(o, "peak_bytes"), b, sizeof b), own ? "limit" : "host",
	    config_size_text(own ? limit : host, c, sizeof c), share);
}

static void
print_gpu(const struct page *p, json_t *o, bool first)
{
	char a[32], b[32];

	label(p, first ? "memory" : "");
	if (json_is_true(json_object_get(o, "answers")))
		line(p, LABEL, "GPU %" PRIu64 " %s, %s of %s", number(o, "index"),
		    text_of(o, "name"), config_size_text(number(o, "used_bytes"), a, sizeof a),
		    config_size_text(number(o, "total_bytes"), b, sizeof b));
	else
		line(p, LABEL, "GPU %" PRIu64 " %s does not answer", number(o, "index"),
		    text_of(o, "name"));
}

static void
print_memories(const struct page *p)
{
	json_t *memory = json_object_get(p->root, "memory"), *o;
	json_t *processes = json_object_get(memory, "processes");
	size_t i;

	json_array_foreach(processes, i, o)
	    print_memory(p, o, number(memory, "host_total_bytes"), i == 0);
	json_array_foreach(json_object_get(memory, "gpus"), i, o)
	    print_gpu(p, o, i == 0 && json_array_size(processes) == 0);
}

static void
print_status(const struct page *p)
{
	size_t i;
	json_t *o;

	print_head(p);
	print_spans(p);
	print_rates(p);
	print_jobs(p);
	if (number(p->root, "pid") != 0 &&
	    json_array_size(json_object_get(p->root, "destinations")) == 0) {
		label(p, "destinations");
		line(p, LABEL, "none: traces stay here");
	}
	json_array_foreach(json_object_get(p->root, "destinations"), i, o)
	    print_destination(p, o, i == 0);
	print_webhook(p);
	print_metrics(p);
	json_array_foreach(json_object_get(p->root, "probes"), i, o)
	{
		if (i == PROBES_MOST)
			break;
		print_probe(p, o, i == 0);
	}
	if (number(p->root, "probe_total") > PROBES_MOST) {
		label(p, "");
		line(p, LABEL, "and %" PRIu64 " more before them",
		    number(p->root, "probe_total") - PROBES_MOST);
	}
	json_array_foreach(json_object_get(p->root, "supervisors"), i, o)
	    print_supervisor(p, o, i == 0);
	print_health(p);
	print_health_port(p);
	print_memories(p);
	print_buffer(p);
}

int
verb_status(struct cli *c)
{
	struct page p = { .t = term_of(c, stdout) };
	char *body = NULL;
	int rv;

	if (c->healthy || c->ready)
		return answer_yes_or_no(c);
	rv = view_get(c, "/status", &body);
	if (rv != CLI_OK)
		return rv;
	if (c->json) {
		puts(body);
	} else {
		p.root = cli_parse(body);
		if (p.root != NULL)
			print_status(&p);
		else
			rv = CLI_FAILED;
	}
	json_decref(p.root);
	free(body);
	return rv;
}
