/*
 * Several chunks in one request: what goes together, what happens to each when
 * the far end refuses, and how a refusal finds the one that is to blame.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/core/export.h"
#include "agent/exporter/payload.h"
#include "schema/tables.h"
#include "tests/t.h"

#define BODY_MAX (4u << 20)

/* ---- a far end that keeps its connection and refuses by rule ------------- */

static struct {
	int listener;
	pthread_t thread;
	char url[64];
	size_t refuse_above; /* 413 */
	bool refuse_poison;  /* 400 for a body that says "poison" */
	bool long_reply;     /* of 8 KB */
	bool slow;           /* the reply comes in four pieces, each after 200 ms */
	_Atomic unsigned requests, connections, traces;
	size_t largest;
	char body[BODY_MAX + 1];
} far;

static void
say(int fd, const char *reply)
{
	size_t n = strlen(reply), piece = far.slow ? n / 4 + 1 : n;

	for (size_t at = 0; at < n; at += piece) {
		if (far.slow)
			usleep(200000);
		(void)!send(fd, reply + at, n - at < piece ? n - at : piece, MSG_NOSIGNAL);
	}
}

static bool
serve_one(int fd)
{
	size_t n = 0, head, body;
	char *end = NULL, *field, reply[8192];

	while (end == NULL) {
		ssize_t got = read(fd, far.body + n, BODY_MAX - n);

		if (got <= 0)
			return false;
		n += (size_t)got;
		far.body[n] = 0;
		end = strstr(far.body, "\r\n\r\n");
	}
	head = (size_t)(end + 4 - far.body);
	body = strtoul(strstr(far.body, "Content-Length: ") + 16, NULL, 10);
	field = strstr(far.body, "X-Datadog-Trace-Count: ");
	while (n < head + body) {
		ssize_t got = read(fd, far.body + n, BODY_MAX - n);

		if (got <= 0)
			return false;
		n += (size_t)got;
	}
	far.requests++;
	if (body > far.largest)
		far.largest = body;
	if (far.refuse_above > 0 && body > far.refuse_above) {
		say(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
	} else if (far.refuse_poison && memmem(far.body + head, body, "poison", 6) != NULL) {
		say(fd, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
	} else {
		far.traces += (unsigned)strtoul(field + 23, NULL, 10);
		snprintf(reply, sizeof reply, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n{%*s",
		    far.long_reply ? 8000 : 2, far.long_reply ? 7999 : 1, "}");
		say(fd, reply);
	}
	return true;
}

static void *
serve(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept(far.listener, NULL, NULL)) >= 0) {
		far.connections++;
		while (serve_one(fd))
			;
		close(fd);
	}
	return NULL;
}

static void
far_start(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;

	memset(&far, 0, sizeof far);
	far.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (far.listener < 0 || bind(far.listener, (struct sockaddr *)&a, sizeof a) != 0 ||
	    listen(far.listener, 4) != 0 ||
	    getsockname(far.listener, (struct sockaddr *)&a, &n) != 0 ||
	    pthread_create(&far.thread, NULL, serve, NULL) != 0)
		exit(2);
	snprintf(far.url, sizeof far.url, "http://127.0.0.1:%u", ntohs(a.sin_port));
}

static void
far_stop(void)
{
	shutdown(far.listener, SHUT_RDWR);
	pthread_join(far.thread, NULL);
	close(far.listener);
}

/* ---- chunks --------------------------------------------------------------- */

/* A lease of one trace with one span, named and padded by a tag. */
static struct lease
make_lease(int64_t id, const char *name, size_t pad)
{
	static uint8_t blob[64 * 1024];
	static char text[24 * 1024];
	struct wire_tags tags = {
		.buf = blob + BUNDLE_FIXED_BYTES + BUNDLE_TRACE_BYTES + RECORD_HEADER_BYTES +
		       WIRE_SPAN_FIXED_BYTES,
		.cap = sizeof text + 64,
	};
	struct wire_span s = { .trace_lo = (uint64_t)id,
		.span_id = 1,
		.duration_ns = 5,
		.name = 1,
		.flags = WIRE_SPAN_LOCAL_ROOT,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };
	struct wire_trace t = { .trace_lo = (uint64_t)id,
		.record_count = 1,
		.priority = WIRE_PRIORITY_NONE,
		.mechanism = WIRE_PRIORITY_NONE };
	struct wire_bundle b = { .trace_count = 1, .span_count = 1 };
	struct lease l = { .chunk.id = id, .destination = 1, .probe = calloc(1, sizeof *l.probe) };
	uint8_t *rec = blob + BUNDLE_FIXED_BYTES + BUNDLE_TRACE_BYTES;

	memset(text, 'x', sizeof text);
	if (pad > 0)
		wire_tag_text(&tags, 2, text, pad);
	s.tag_bytes = tags.used;
	s.tag_count = tags.count;
	wire_span_put(rec + RECORD_HEADER_BYTES, &s);
	t.records_bytes = RECORD_HEADER_BYTES + WIRE_SPAN_FIXED_BYTES + tags.used;
	wire_record_seal(rec, 0, t.records_bytes, EVENT_SPAN, RECORD_PUBLISHED);
	wire_trace_put(blob + BUNDLE_FIXED_BYTES, &t);
	b.traces_bytes = BUNDLE_TRACE_BYTES + t.records_bytes;

	uint8_t *dict = blob + BUNDLE_FIXED_BYTES + b.traces_bytes;

	b.dict_bytes = (uint32_t)wire_dict_put(dict, 1, name, (uint32_t)strlen(name));
	b.dict_bytes += (uint32_t)wire_dict_put(dict + b.dict_bytes, 2, "pad", 3);
	wire_bundle_seal(blob, &b);
	l.chunk.spans = l.chunk.traces = 1;
	l.chunk.blob_bytes = BUNDLE_FIXED_BYTES + b.traces_bytes + b.dict_bytes;
	l.chunk.blob = malloc(l.chunk.blob_bytes);
	memcpy(l.chunk.blob, blob, l.chunk.blob_bytes);
	return l;
}

static void
no_wake(void *ctx)
{
	(void)ctx;
}

static struct exporter *
begin(uint32_t request_max, uint64_t timeout_ms)
{
	struct destination_options d = { .name = "agent",
		.asked = true,
		.timeout_ms = timeout_ms,
		.request_max_bytes = request_max };
	struct exporter *e;

	snprintf(d.url, sizeof d.url, "%s", far.url);
	if (exporter_new(&d, 1, no_wake, NULL, &e) != E_OK || exporter_start(e) != E_OK)
		exit(2);
	return e;
}

/* Results by chunk id, until n have come. */
static struct export_result results[EXPORT_CHUNKS_MAX + 1];

static bool
take(struct exporter *e, size_t n)
{
	uint64_t until = clock_mono_ns() + 5 * NS_PER_S;
	struct export_result r;

	memset(results, 0, sizeof results);
	while (n > 0 && clock_mono_ns() < until) {
		if (exporter_take(e, &r) != E_OK) {
			usleep(2000);
			continue;
		}
		results[r.s.chunk] = r;
		free(r.agent_reply);
		free(r.a.blob);
		free(r.b.blob);
		n--;
	}
	return n == 0;
}

static uint32_t
wants(struct exporter *e)
{
	struct export_wish w;

	exporter_wants(e, 0, &w);
	return w.chunks;
}

static void
give(struct exporter *e, const int64_t *ids, size_t n, int64_t poison, size_t pad)
{
	struct lease l[EXPORT_CHUNKS_MAX];

	for (size_t i = 0; i < n; i++)
		l[i] = make_lease(ids[i], ids[i] == poison ? "poison" : "good", pad);
	REQUIRE(exporter_give(e, 0, l, n) == E_OK);
}

static const int64_t eight[] = { 1, 2, 3, 4, 5, 6, 7, 8 };

TEST(many_chunks_are_one_request_on_one_connection_and_each_has_its_result)
{
	far_start();

	struct exporter *e = begin(0, 2000);

	for (unsigned round = 1; round <= 3; round++) {
		give(e, eight, 8, 0, 10);
		CHECK_EQ(wants(e), 0); /* one request is outstanding */
		REQUIRE(take(e, 8));
		for (int i = 1; i <= 8; i++)
			CHECK_EQ(results[i].s.kind, SETTLE_SENT);
		CHECK_EQ(far.requests, round);
		CHECK_EQ(far.traces, 8 * round);
	}
	CHECK_EQ(far.connections, 1);
	exporter_free(e);
	far_stop();
}

TEST(what_does_not_fit_below_the_limit_is_returned_untried)
{
	far_start();

	struct exporter *e = begin(64 * 1024, 2000);

	give(e, eight, 8, 0, 20000);
	REQUIRE(take(e, 8));
	CHECK_EQ(far.requests, 1);
	CHECK(far.largest <= 64 * 1024);
	for (int i = 1; i <= 8; i++)
		CHECK_EQ(results[i].s.kind, i <= 3 ? SETTLE_SENT : SETTLE_RETURN);
	exporter_free(e);
	far_stop();
}

TEST(a_chunk_larger_than_any_request_is_not_sent)
{
	far_start();

	struct exporter *e = begin(16 * 1024, 2000);

	give(e, eight, 2, 0, 20000);
	REQUIRE(take(e, 2));
	CHECK_EQ(far.requests, 0);
	CHECK_EQ(results[1].s.kind, SETTLE_REJECTED); /* one span: it cannot be split */
	CHECK_EQ(results[1].s.status, 413);
	CHECK_EQ(results[2].s.kind, SETTLE_RETURN);
	exporter_free(e);
	far_stop();
}

TEST(a_refused_request_is_halved_until_the_chunk_to_blame_is_alone)
{
	int64_t left[8];
	size_t n = 8, rejected = 0;

	far_start();
	far.refuse_poison = true;

	struct exporter *e = begin(0, 2000);

	memcpy(left, eight, sizeof eight);
	for (int round = 0; n > 0 && round < 20; round++) {
		size_t some = wants(e) < n ? wants(e) : n, kept = 0;

		give(e, left, some, 6, 10);
		REQUIRE(take(e, some));
		for (size_t i = 0; i < n; i++) {
			struct settlement *s = &results[left[i]].s;

			if (i >= some || s->kind == SETTLE_RETURN) {
				left[kept++] = left[i];
			} else if (s->kind == SETTLE_REJECTED) {
				CHECK_EQ(left[i], 6);
				CHECK_EQ(s->status, 400);
				rejected++;
			} else {
				CHECK_EQ(s->kind, SETTLE_SENT);
			}
		}
		n = kept;
	}
	CHECK_EQ(n, 0);
	CHECK_EQ(rejected, 1);
	CHECK_EQ(far.traces, 7);
	exporter_free(e);
	far_stop();
}

TEST(a_413_for_many_is_no_verdict_on_any)
{
	far_start();
	far.refuse_above = 10000;

	struct exporter *e = begin(0, 2000);

	give(e, eight, 8, 0, 3000);
	REQUIRE(take(e, 8));
	for (int i = 1; i <= 8; i++)
		CHECK_EQ(results[i].s.kind, SETTLE_RETURN);
	CHECK_EQ(wants(e), 4);
	give(e, eight, 2, 0, 3000);
	REQUIRE(take(e, 2));
	CHECK_EQ(results[1].s.kind, SETTLE_SENT);
	CHECK_EQ(wants(e), 8); /* and grows again */
	exporter_free(e);
	far_stop();
}

/* A few bytes now and then are no progress. */
TEST(a_far_end_that_only_trickles_is_stalled)
{
	far_start();
	far.slow = true;

	struct exporter *e = begin(0, 300);

	give(e, eight, 1, 0, 10);
	REQUIRE(take(e, 1));
	CHECK_EQ(results[1].s.kind, SETTLE_RETRY);
	CHECK(results[1].s.status < 0);
	exporter_free(e);
	far_stop();
}

/* Four pieces, 800 ms in all: each is progress. */
TEST(a_request_that_moves_may_take_longer_than_the_limit)
{
	far_start();
	far.slow = far.long_reply = true;

	struct exporter *e = begin(0, 300);

	give(e, eight, 1, 0, 10);
	REQUIRE(take(e, 1));
	CHECK_EQ(results[1].s.kind, SETTLE_SENT);
	exporter_free(e);
	far_stop();
}

/* ---- no memory ------------------------------------------------------------ */

#if !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__) /* they have a malloc of their own */
#define CAN_DENY 1
#else
#define CAN_DENY 0
#endif
#if CAN_DENY
void *__libc_malloc(size_t n);
void *__libc_realloc(void *p, size_t n);

static int deny = -1; /* so many succeed, the next does not; below 0: all do */

static bool
denied(void)
{
	return deny >= 0 && deny-- == 0;
}

void *
malloc(size_t n)
{
	return denied() ? NULL : __libc_malloc(n);
}

void *
realloc(void *p, size_t n)
{
	return denied() ? NULL : __libc_realloc(p, n);
}

typedef enum err (*encode_fn)(
    struct spanview *v, const struct lease *l, const struct span_identity *id, struct outbuf *out);

static enum err
as_msgpack(
    struct spanview *v, const struct lease *l, const struct span_identity *id, struct outbuf *out)
{
	uint32_t traces;

	return payload_msgpack(v, &l->chunk, id, out, &traces);
}

static enum err
as_lines(
    struct spanview *v, const struct lease *l, const struct span_identity *id, struct outbuf *out)
{
	return payload_lines(v, &l->chunk, id, out);
}

/* How many allocations can be denied, one at a time. */
static int
denials(encode_fn encode, const struct lease *l, const struct span_identity *id)
{
	for (int n = 0;; n++) {
		struct outbuf out = { 0 };
		struct spanview *v;
		enum err e;
		bool spared;

		if (spanview_new(&v) != E_OK)
			exit(2);
		deny = n;
		e = encode(v, l, id, &out);
		spared = deny >= 0;
		deny = -1;
		CHECK_EQ(e, spared ? E_OK : E_NOMEM);
		outbuf_free(&out);
		spanview_free(v);
		if (spared)
			return n;
	}
}

TEST(no_memory_is_no_verdict_on_a_chunk)
{
	static const struct span_defaults d = { "service", "env", "1", "host", "", "" };
	struct lease l = make_lease(1, "good", 100);
	struct span_identity *id;

	REQUIRE(span_identity_new(l.probe, &d, &id) == E_OK);
	CHECK(denials(as_msgpack, &l, id) >= 4);
	CHECK(denials(as_lines, &l, id) >= 4);
	span_identity_free(id);
	free(l.chunk.blob);
	free(l.probe);
}
#endif

int
main(void)
{
	RUN(many_chunks_are_one_request_on_one_connection_and_each_has_its_result);
	RUN(what_does_not_fit_below_the_limit_is_returned_untried);
	RUN(a_chunk_larger_than_any_request_is_not_sent);
	RUN(a_refused_request_is_halved_until_the_chunk_to_blame_is_alone);
	RUN(a_413_for_many_is_no_verdict_on_any);
	RUN(a_far_end_that_only_trickles_is_stalled);
	RUN(a_request_that_moves_may_take_longer_than_the_limit);
#if CAN_DENY
	RUN(no_memory_is_no_verdict_on_a_chunk);
#endif
	return t_done();
}
