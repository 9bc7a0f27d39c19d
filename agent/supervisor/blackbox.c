/*
 * blackbox.c - a death as a file.  See blackbox.h.
 */
#include "agent/supervisor/blackbox.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/core/json.h"

void
blackbox_sample(struct blackbox *b, uint64_t mono_ns, uint64_t bytes)
{
	b->samples[b->sample_count++ % BLACKBOX_SAMPLES] = (struct memory_sample){ mono_ns, bytes };
}

static void
put_number_or_null(struct outbuf *b, const char *key, int v)
{
	if (v >= 0) {
		put_i64(b, key, v);
		return;
	}
	put_key(b, key);
	put_raw(b, "null");
}

static void
put_evidence(struct outbuf *b, const struct death *d)
{
	put_key(b, "evidence");
	put_raw(b, "[");
	for (unsigned i = 0; i < d->lines; i++) {
		put_raw(b, i > 0 ? "," : "");
		put_text_n(b, d->text[i], strlen(d->text[i]));
	}
	put_raw(b, "]");
}

/* [[milliseconds before the end, bytes], ...], oldest first. */
static void
put_curve(struct outbuf *b, const struct blackbox *x)
{
	uint32_t n = x->sample_count < BLACKBOX_SAMPLES ? x->sample_count : BLACKBOX_SAMPLES;

	put_key(b, "memory");
	put_raw(b, "[");
	for (uint32_t i = 0; i < n; i++) {
		const struct memory_sample *s =
		    &x->samples[(x->sample_count - n + i) % BLACKBOX_SAMPLES];
		char text[64];

		snprintf(text, sizeof text, "%s[%" PRIu64 ",%" PRIu64 "]", i > 0 ? "," : "",
		    (x->mono_ns - s->mono_ns) / NS_PER_MS, s->bytes);
		put_raw(b, text);
	}
	put_raw(b, "]");
}

static void
put_box(struct outbuf *b, const struct blackbox *x, const char *id, char *text)
{
	const struct evidence *e = &x->evidence;

	put_raw(b, "{");
	put_str(b, "id", id);
	put_u64(b, "time_ns", x->time_real_ns);
	put_u64(b, "pid", (uint64_t)x->pid);
	put_str(b, "life", x->life);
	put_str(b, "verdict", cause_name(x->death.cause));
	put_str(b, "certainty", certainty_name(x->death.certainty));
	put_number_or_null(b, "signal", x->death.signal);
	put_number_or_null(b, "exit_code", x->death.exit_code);
	put_u64(b, "limit_bytes", e->limit_bytes);
	put_u64(b, "rss_bytes", e->last_bytes);
	put_u64(b, "peak_rss_bytes", e->peak_bytes);
	put_evidence(b, &x->death);
	put_bool(b, "restarted", x->restarted);
	put_u64(b, "restart_delay_ms", x->restart_delay_ms);
	put_str(b, "restart_why", x->restart_why);
	put_u64(b, "uptime_ms", x->uptime_ms);
	put_str(b, "method", x->method);
	put_str(b, "method_why", x->method_why);
	put_u64(b, "cgroup_oom_kills", e->cgroup_oom_kills);
	put_u64(b, "host_oom_kills", e->host_oom_kills);
	put_u64(b, "host_total_bytes", x->host_total_bytes);
	put_u64(b, "host_available_bytes", x->host_available_bytes);
	put_str(b, "version", COMFYMON_VERSION);
	put_curve(b, x);
	put_key(b, "output");
	put_text_n(b, text, x->tail != NULL ? tail_text(x->tail, text, OUTPUT_TAIL_BYTES) : 0);
	put_raw(b, "}\n");
}

static int
is_box(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 5 && e->d_name[0] != '.' && strcmp(e->d_name + n - 5, ".json") == 0;
}

/* The oldest beyond what is kept; by a clock that was set back the newest may seem to be. */
static void
prune(const char *dir, const char *newest)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_box, alphasort);

	for (int i = 0; i < n; i++) {
		char path[600];

		if (i + (int)BLACKBOX_KEEP < n && strcmp(names[i]->d_name, newest) != 0 &&
		    path_join(path, sizeof path, dir, names[i]->d_name) == E_OK)
			unlink(path);
		free(names[i]);
	}
	free(names);
}

void
blackbox_id(const struct blackbox *x, char *id, size_t cap)
{
	time_t seconds = (time_t)(x->time_real_ns / NS_PER_S);
	char when[32] = "";
	struct tm tm;

	if (gmtime_r(&seconds, &tm) != NULL)
		strftime(when, sizeof when, "%Y%m%dT%H%M%S", &tm);
	snprintf(id, cap, "%s.%03u-%d", when, (unsigned)(x->time_real_ns / NS_PER_MS % 1000),
	    (int)x->pid);
}

enum err
blackbox_write(const char *data_dir, const struct blackbox *x, const char *id)
{
	struct outbuf b = { 0 };
	char dir[512], path[600], name[96];
	char *text = malloc(OUTPUT_TAIL_BYTES);
	enum err e = text != NULL ? path_join(dir, sizeof dir, data_dir, BLACKBOX_DIR) : E_NOMEM;

	if (e == E_OK)
		e = dir_prepare(dir);
	if (e == E_OK) {
		snprintf(name, sizeof name, "%.80s.json", id);
		e = path_join(path, sizeof path, dir, name);
	}
	if (e == E_OK) {
		put_box(&b, x, id, text);
		e = b.failed ? E_NOMEM : file_write_atomic(path, b.p, b.n);
	}
	if (e == E_OK)
		prune(dir, name);
	outbuf_free(&b);
	free(text);
	return e;
}
