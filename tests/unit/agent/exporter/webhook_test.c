/*
 * What is sent to a webhook, what comes of each reply, and how long a line
 * rests.  The far end is whatever it likes to be.
 */
#include <stdint.h>
#include <sys/resource.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/core/webhook.h"
#include "agent/exporter/signature.h"
#include "agent/exporter/verdict.h"
#include "tests/t.h"
#include "tests/unit/agent/exporter/far.h"

#define TIMEOUT_MS 600
#define SECRET     "correct horse battery staple"
#define BODY       "{\"prompt_id\":\"p\",\"state\":\"failed\"}"
#define KEY        "00112233445566778899aabbccddeeff-7-failed"

static int wakes;

static void
wake(void *ctx)
{
	(void)ctx;
	__atomic_add_fetch(&wakes, 1, __ATOMIC_RELAXED);
}

static struct webhook *
start(const char *url, const char *secret)
{
	struct webhook_options o = { .timeout_ms = TIMEOUT_MS };
	struct webhook *w = NULL;

	snprintf(o.url, sizeof o.url, "%s", url);
	snprintf(o.secret, sizeof o.secret, "%s", secret);
	if (webhook_new(&o, wake, NULL, &w) != E_OK || webhook_start(w) != E_OK)
		exit(2);
	return w;
}

static void
give(struct webhook *w, uint32_t tries, uint32_t refusals)
{
	struct webhook_notice n = { .id = 3, .job = 7, .tries = tries, .refusals = refusals };

	snprintf(n.key, sizeof n.key, "%s", KEY);
	outbuf_str(&n.body, BODY);
	CHECK_EQ(webhook_give(w, &n), E_OK);
	CHECK(n.body.p == NULL); /* it is the webhook's now */
}

static bool
take(struct webhook *w, struct webhook_result *r)
{
	uint64_t until = clock_mono_ns() + 10 * NS_PER_S;
	enum err rv;

	while ((rv = webhook_take(w, r)) != E_OK && clock_mono_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	return rv == E_OK;
}

/* Value of a header in a request, as text. */
static bool
header(const char *request, const char *name, char *out, size_t cap)
{
	char line[80];
	const char *at;

	snprintf(line, sizeof line, "\r\n%s: ", name);
	at = strstr(request, line);
	if (at == NULL)
		return false;
	snprintf(out, cap, "%.*s", (int)strcspn(at + strlen(line), "\r\n"), at + strlen(line));
	return true;
}

static const struct far_reply fine = { "fine", "HTTP/1.1 204 No Content\r\n\r\n", NULL, 0, 0, 0,
	204 };

TEST(signs_as_anybody_can_check)
{
	char mac[SIGNATURE_HEX_BYTES];

	/* hmac.new(b"Jefe", b'1700000000.{"a":1}', "sha256").hexdigest() of Python */
	signature_make("Jefe", 1700000000, "{\"a\":1}", 7, mac);
	CHECK_STR(mac, "fa5f6481efc59da48b19c9dc10196c9953e5651f8304b3a318b6b87d70272e0a");
}

TEST(tells_the_body_with_key_time_and_signature)
{
	char value[160], mac[SIGNATURE_HEX_BYTES], want[160];
	struct webhook_result r = { 0 };
	struct webhook_status s;
	struct far f;
	struct webhook *w;
	uint64_t at;

	far_start(&f, &fine);
	w = start(f.url, SECRET);
	give(w, 0, 0);
	CHECK(take(w, &r));
	far_stop(&f);
	CHECK_EQ(r.end, WEBHOOK_TOLD);
	CHECK_EQ(r.job, 7);
	CHECK_EQ(r.id, 3);
	CHECK(strncmp(f.request, "POST / HTTP/1.1\r\n", 17) == 0);
	CHECK(header(f.request, "Content-Type", value, sizeof value));
	CHECK_STR(value, "application/json");
	CHECK(header(f.request, "Idempotency-Key", value, sizeof value));
	CHECK_STR(value, KEY);
	CHECK(header(f.request, "User-Agent", value, sizeof value));
	CHECK(strncmp(value, "comfymon/", 9) == 0);
	REQUIRE(header(f.request, "Comfymon-Timestamp", value, sizeof value));
	at = strtoull(value, NULL, 10);
	CHECK(at + 5 > (uint64_t)time(NULL) && at < (uint64_t)time(NULL) + 5);
	signature_make(SECRET, at, BODY, strlen(BODY), mac);
	snprintf(want, sizeof want, "t=%llu,v1=%s", (unsigned long long)at, mac);
	CHECK(header(f.request, "Comfymon-Signature", value, sizeof value));
	CHECK_STR(value, want);
	CHECK(strstr(f.request, SECRET) == NULL);
	webhook_status(w, &s);
	CHECK_EQ(s.told, 1);
	CHECK(s.is_signed && s.last_ok_real_ns > 0);
	webhook_free(w);
}

TEST(without_a_secret_nothing_is_signed)
{
	struct webhook_result r = { 0 };
	struct far f;
	struct webhook *w;
	char value[160];

	far_start(&f, &fine);
	w = start(f.url, "");
	give(w, 0, 0);
	CHECK(take(w, &r));
	far_stop(&f);
	CHECK_EQ(r.end, WEBHOOK_TOLD);
	CHECK(!header(f.request, "Comfymon-Signature", value, sizeof value));
	CHECK(header(f.request, "Comfymon-Timestamp", value, sizeof value));
	webhook_free(w);
}

#define OK   "HTTP/1.1 200 OK\r\n"
#define TOLD (int)WEBHOOK_TOLD, 200
#define LOST (int)WEBHOOK_AGAIN, -1

static const struct far_reply replies[] = {
	{ "a body that is not read", OK "Content-Length: 2\r\n\r\nOK", NULL, 0, 0, TOLD },
	{ "endless body", OK "\r\n", "{{{{{{{{{{{{{{{{{{{{{{{{{{", 64u << 20, 0, TOLD },
	{ "a body that breaks off", OK "Content-Length: 100\r\n\r\n{}", NULL, 0, 0, TOLD },
	{ "a body that crawls", OK "Content-Length: 1000\r\n\r\n", " ", 1000, 100, TOLD },
	{ "created", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0, WEBHOOK_TOLD,
	    201 },
	{ "endless headers", OK, "X-More: and more and more and more and more\r\n", 64u << 20, 0,
	    LOST },
	{ "one endless header", OK "X-More: ", "and more and more and more ", 64u << 20, 0, LOST },
	{ "headers that crawl", OK, "X", 1000, 100, LOST },
	{ "headers that break off", OK "X-More: and", NULL, 0, 0, LOST },
	{ "endless 100 Continue", "", "HTTP/1.1 100 Continue\r\n\r\n", 64u << 20, 0, LOST },
	{ "garbage", "\x16\x03\x01\x02\xff\xff\r\n\r\n", NULL, 0, 0, LOST },
	{ "HTTP/0.9", "{\"ok\":true}", NULL, 0, 0, LOST },
	{ "nothing", "", NULL, 0, 0, LOST },
	{ "overload", "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0, WEBHOOK_AGAIN,
	    503 },
	{ "its own time-out", "HTTP/1.1 408 No\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0,
	    WEBHOOK_AGAIN, 408 },
	{ "too many", "HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0, WEBHOOK_AGAIN,
	    429 },
	{ "moved", "HTTP/1.1 307 Go\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
	    NULL, 0, 0, WEBHOOK_AGAIN, 307 },
};

TEST(a_hostile_reply_costs_bounded_time_and_memory)
{
	struct rusage before, after;

	getrusage(RUSAGE_SELF, &before);
	for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
		const struct far_reply *want = &replies[i];
		uint64_t began = clock_mono_ns();
		struct webhook_result r = { 0 };
		struct webhook_status s;
		struct webhook *w;
		struct far f;
		int failed = t_failed_checks;

		far_start(&f, want);
		w = start(f.url, SECRET);
		give(w, 0, 0);
		CHECK(take(w, &r));
		far_stop(&f);
		webhook_status(w, &s);
		webhook_free(w);
		CHECK_EQ(r.end, want->kind);
		CHECK(!r.refused);
		CHECK_EQ(s.last_status, want->status > 0 ? want->status : 0);
		CHECK(clock_mono_ns() - began < 5 * NS_PER_S);
		CHECK(f.sent < 32u << 20); /* cut off, not drunk to the end */
		CHECK((s.last_error[0] != '\0') == (r.end != WEBHOOK_TOLD));
		CHECK((r.next_try_real_ns > 0) == (r.end == WEBHOOK_AGAIN));
		if (t_failed_checks != failed)
			fprintf(stderr, "... in \"%s\": %s\n", want->name, s.last_error);
	}
	getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	CHECK(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
#endif
}

TEST(a_redirect_is_not_followed)
{
	struct far_reply moved = { "moved", NULL, NULL, 0, 0, 0, 302 };
	struct webhook_result r = { 0 };
	struct far f, other;
	struct webhook *w;
	char head[256];

	far_start(&other, &fine);
	snprintf(head, sizeof head,
	    "HTTP/1.1 302 Found\r\nLocation: %s/\r\nContent-Length: 0\r\n\r\n", other.url);
	moved.head = head;
	far_start(&f, &moved);
	w = start(f.url, SECRET);
	give(w, 0, 0);
	CHECK(take(w, &r));
	webhook_free(w);
	far_stop(&f);
	CHECK_EQ(r.end, WEBHOOK_AGAIN);
	far_close(&other);
	CHECK_STR(other.request, ""); /* nobody came */
}

TEST(a_refusal_is_asked_again_twice_then_given_up_and_rests_no_other)
{
	static const struct far_reply no = { "no", "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n",
		NULL, 0, 0, 0, 410 };
	struct webhook_result r = { 0 };
	struct webhook_status s;
	struct webhook_wish wish;

	for (uint32_t before = 0; before < WEBHOOK_REFUSALS; before++) {
		struct webhook *w;
		struct far f;

		far_start(&f, &no);
		w = start(f.url, "");
		give(w, 20, before);
		webhook_wants(w, &wish);
		CHECK(!wish.ready && wish.from_mono_ns == 0); /* one at a time */
		CHECK(take(w, &r));
		far_stop(&f);
		webhook_wants(w, &wish);
		CHECK(wish.ready);
		webhook_status(w, &s);
		CHECK_EQ(r.end, before < 2 ? WEBHOOK_AGAIN : WEBHOOK_GIVEN_UP);
		CHECK(r.refused);
		CHECK_EQ(s.given_up, before == 2);
		/* 20 tries that the network lost make its rest no longer */
		CHECK(
		    r.end != WEBHOOK_AGAIN || r.next_try_real_ns < clock_real_ns() + 2 * NS_PER_S);
		webhook_free(w);
	}
}

TEST(the_line_rests_when_the_far_end_cannot_and_as_long_as_it_asks)
{
	static const struct far_reply later = { "later",
		"HTTP/1.1 503 No\r\nRetry-After: 70\r\nContent-Length: 0\r\n\r\n", NULL, 0, 0, 0,
		503 };
	struct webhook_result r = { 0 };
	struct webhook_wish wish;
	struct webhook *w;
	struct far f;
	int before;

	far_start(&f, &later);
	w = start(f.url, "");
	give(w, 0, 0);
	CHECK(take(w, &r));
	far_stop(&f);
	CHECK(r.next_try_real_ns > clock_real_ns() + 60 * NS_PER_S);
	CHECK(r.next_try_real_ns < clock_real_ns() + 71 * NS_PER_S);
	webhook_wants(w, &wish);
	CHECK(!wish.ready && !wish.rested);
	CHECK(wish.from_mono_ns > clock_mono_ns() + 60 * NS_PER_S);
	before = __atomic_load_n(&wakes, __ATOMIC_RELAXED);
	webhook_retry_now(w);
	webhook_wants(w, &wish);
	CHECK(wish.ready && wish.rested);
	CHECK(__atomic_load_n(&wakes, __ATOMIC_RELAXED) > before);
	webhook_free(w);
}

TEST(what_was_never_sent_keeps_its_place_while_the_line_rests)
{
	struct webhook_result r = { 0 };
	struct webhook_wish wish;
	struct webhook_status s;
	struct webhook *w;
	struct far f;

	/* A port that nobody listens on until the second try. */
	far_start(&f, &fine);
	far_close(&f);
	w = start(f.url, "");
	give(w, 3, 0);
	CHECK(take(w, &r));
	CHECK_EQ(r.end, WEBHOOK_AGAIN);
	CHECK(!r.refused);
	CHECK_EQ(r.next_try_real_ns, 0);
	webhook_status(w, &s);
	CHECK_EQ(s.state, DEST_OFFLINE);
	CHECK(strstr(s.target, "http://127.0.0.1:") == s.target);
	CHECK(s.next_try_real_ns > clock_real_ns());
	webhook_wants(w, &wish);
	CHECK(!wish.ready && wish.from_mono_ns > clock_mono_ns());
	far_start_at(&f, &fine, f.port);
	give(w, 4, 0);
	CHECK(take(w, &r));
	far_stop(&f);
	CHECK_EQ(r.end, WEBHOOK_TOLD);
	webhook_wants(w, &wish);
	CHECK(wish.ready);
	webhook_free(w);
}

TEST(stops_in_the_middle_of_a_request_and_says_nothing_of_it)
{
	static const struct far_reply slow = { "slow", OK "X-More: ", "X", 1000, 100, 0, 0 };
	struct webhook_result r;
	struct webhook *w;
	struct far f;
	uint64_t began;

	far_start(&f, &slow);
	w = start(f.url, "");
	give(w, 0, 0);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	began = clock_mono_ns();
	webhook_stop(w, 100);
	CHECK(clock_mono_ns() - began < NS_PER_S);
	CHECK_EQ(webhook_take(w, &r), E_NOTFOUND);
	webhook_free(w);
	far_stop(&f);
}

TEST(what_stands_behind_the_host_is_not_shown)
{
	static const char *const urls[][2] = {
		{ "https://user:word@hooks.example:8443/T0/B1/key?x=@y",
		    "https://hooks.example:8443" },
		{ "http://[::1]:80", "http://[::1]:80" },
		{ "https://hooks.example?key=1", "https://hooks.example" },
	};

	for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
		struct webhook_status s;
		struct webhook *w = start(urls[i][0], "");

		webhook_status(w, &s);
		CHECK_STR(s.target, urls[i][1]);
		webhook_free(w);
	}
}

TEST(sleeps_without_a_timer_while_there_is_nothing_to_tell)
{
	struct webhook *w = start("http://127.0.0.1:1/", "");
	struct rusage before, after;

	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	getrusage(RUSAGE_SELF, &before);
	nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_THREAD__)                    /* it has a thread of its own */
	CHECK(after.ru_nvcsw - before.ru_nvcsw < 3); /* this thread's own sleep */
#endif
	webhook_free(w);
}

TEST(waits_up_to_ten_minutes_between_two_tries)
{
	uint64_t most = 0;

	for (uint64_t i = 0; i < 4000; i++) {
		uint64_t state = i, ms = backoff_up_to_ms(40, 600000, random_next(&state));

		CHECK(ms >= 50 && ms <= 600000);
		most = ms > most ? ms : most;
	}
	CHECK(most > 590000);
	CHECK(backoff_up_to_ms(1, 600000, UINT64_MAX) <= 1000);
}

int
main(void)
{
	RUN(signs_as_anybody_can_check);
	RUN(tells_the_body_with_key_time_and_signature);
	RUN(without_a_secret_nothing_is_signed);
	RUN(a_hostile_reply_costs_bounded_time_and_memory);
	RUN(a_redirect_is_not_followed);
	RUN(a_refusal_is_asked_again_twice_then_given_up_and_rests_no_other);
	RUN(the_line_rests_when_the_far_end_cannot_and_as_long_as_it_asks);
	RUN(what_was_never_sent_keeps_its_place_while_the_line_rests);
	RUN(stops_in_the_middle_of_a_request_and_says_nothing_of_it);
	RUN(what_stands_behind_the_host_is_not_shown);
	RUN(sleeps_without_a_timer_while_there_is_nothing_to_tell);
	RUN(waits_up_to_ten_minutes_between_two_tries);
	return t_done();
}
