/*
 * health_test.c - what /healthz and /readyz answer for what is known, and whose
 * name a request may come in by.
 */
#include "agent/base/clock.h"
#include "agent/control/health.h"
#include "tests/t.h"

static struct status_health known;
static enum err pipeline;
static unsigned asked;

static void
tell_health(void *agent, struct status_health *out)
{
	(void)agent;
	*out = known;
}

static enum err
ask_pipeline(void *agent, agent_query_fn fn, void *ctx, uint64_t timeout_ms)
{
	(void)agent;
	CHECK(timeout_ms < 1000); /* Kubernetes does not wait longer */
	asked++;
	return pipeline == E_OK ? fn(ctx, NULL, NULL) : pipeline;
}

static unsigned pages;

static enum err
make_page(void *agent, struct outbuf *page)
{
	char text[32];

	(void)agent;
	snprintf(text, sizeof text, "page %u\n", ++pages);
	outbuf_str(page, text);
	return pipeline;
}

static const struct control_options options = { .view = {
						    .query = ask_pipeline,
						    .health = tell_health,
						    .metrics = make_page,
						} };
static const struct status_health_port shown;
static struct outbuf out;

static int
get(route_fn route, struct door *door)
{
	struct request r = { .door = door, .rest = "" };

	outbuf_reset(&out, SIZE_MAX);

	int status = route(&r, &out);

	outbuf_put(&out, "", 1);
	return status;
}

static bool
says(const char *text)
{
	return strstr((const char *)out.p, text) != NULL;
}

static struct door
fresh(bool healthy, bool ready)
{
	memset(&known, 0, sizeof known);
	known.healthy = healthy;
	known.ready = ready;
	snprintf(known.wrong, sizeof known.wrong, "%s", healthy ? "" : "pid 7 is zombie: gone");
	snprintf(known.why, sizeof known.why, "%s", ready ? "" : "no ComfyUI is connected");
	pipeline = E_OK;
	return (struct door){ .options = &options, .shown = &shown };
}

TEST(who_works_without_comfyui_is_healthy_and_not_ready)
{
	struct door d = fresh(true, false);

	CHECK_EQ(get(get_healthz, &d), 200);
	CHECK(says("\"healthy\":true") && says("\"wrong\":\"\""));
	CHECK_EQ(get(get_readyz, &d), 503);
	CHECK(says("\"ready\":false") && says("\"why\":\"no ComfyUI is connected\""));
}

TEST(a_broken_comfyui_is_named)
{
	struct door d = fresh(false, true); /* another one is well */

	CHECK_EQ(get(get_healthz, &d), 503);
	CHECK(says("\"healthy\":false") && says("\"wrong\":\"pid 7 is zombie: gone\""));
	CHECK_EQ(get(get_readyz, &d), 200);
}

TEST(an_agent_that_ends_is_not_healthy)
{
	struct door d = fresh(true, true);

	pipeline = E_STATE;
	CHECK_EQ(get(get_healthz, &d), 503);
	CHECK(says("\"healthy\":false") && says("about to end"));
	CHECK_EQ(get(get_readyz, &d), 200); /* it says nothing of ComfyUI */
}

TEST(a_silent_pipeline_is_waited_for_once_and_not_called_dead_at_once)
{
	struct door d = fresh(true, true);

	pipeline = E_TIMEOUT;
	asked = 0;
	for (int i = 0; i < 100; i++)
		CHECK_EQ(get(get_healthz, &d), 200);
	CHECK_EQ(asked, 1);
	/* Half a minute later. */
	d.alive.silent_ns -= 31 * NS_PER_S;
	d.alive.asked_ns -= 10 * NS_PER_S;
	CHECK_EQ(get(get_healthz, &d), 503);
	CHECK(says("has not answered for 31 s"));
	pipeline = E_OK;
	d.alive.asked_ns -= 10 * NS_PER_S;
	CHECK_EQ(get(get_healthz, &d), 200);
}

TEST(the_pipeline_has_half_a_minute)
{
	struct alive a = { 0 };
	char wrong[128] = "";
	uint64_t t = 1000 * NS_PER_S;

	CHECK(alive_is_due(&a, t));
	alive_note(&a, E_TIMEOUT, t);
	CHECK(!alive_is_due(&a, t + NS_PER_S / 2));
	CHECK(alive_is_due(&a, t + NS_PER_S));
	for (unsigned s = 10; s < 30; s += 10) {
		alive_note(&a, E_TIMEOUT, t + s * NS_PER_S);
		CHECK(alive_judge(&a, t + s * NS_PER_S, wrong, sizeof wrong));
	}
	CHECK_STR(wrong, "");
	CHECK(!alive_judge(&a, t + 30 * NS_PER_S, wrong, sizeof wrong));
	alive_note(&a, E_OK, t + 31 * NS_PER_S);
	CHECK(alive_judge(&a, t + 31 * NS_PER_S, wrong, sizeof wrong));
	/* Two questions far apart, both unlucky, are no illness. */
	alive_note(&a, E_TIMEOUT, t + 40 * NS_PER_S);
	alive_note(&a, E_TIMEOUT, t + 4000 * NS_PER_S);
	CHECK(alive_judge(&a, t + 4000 * NS_PER_S, wrong, sizeof wrong));
}

TEST(a_page_of_metrics_is_made_once_a_second_however_often_it_is_asked_for)
{
	struct door door = fresh(true, true);
	unsigned before = pages;

	for (int i = 0; i < 1000; i++)
		CHECK_EQ(get(get_metrics, &door), 200);
	CHECK(says("page "));
	CHECK_EQ(pages, before + 1);
	door.page.made_ns -= NS_PER_S;
	CHECK_EQ(get(get_metrics, &door), 200);
	CHECK_EQ(pages, before + 2);
	outbuf_free(&door.page.text);
}

TEST(the_port_does_not_wait_for_metrics_while_the_pipeline_is_busy)
{
	struct door door = fresh(true, true);
	unsigned before = pages, asked_before = asked;

	door.open_only = true;
	pipeline = E_TIMEOUT;
	CHECK_EQ(get(get_metrics, &door), 503);
	CHECK(says("busy"));
	CHECK_EQ(get(get_metrics, &door), 503);
	CHECK_EQ(asked, asked_before + 1);
	CHECK_EQ(pages, before);
	pipeline = E_OK;
	door.alive.asked_ns -= NS_PER_S;
	CHECK_EQ(get(get_metrics, &door), 200);
	CHECK_EQ(pages, before + 1);
	outbuf_free(&door.page.text);
}

TEST(a_page_that_could_not_be_made_is_not_kept)
{
	struct door door = fresh(true, true);

	pipeline = E_NOMEM;
	CHECK_EQ(get(get_metrics, &door), 503);
	CHECK(!says("page"));
	pipeline = E_OK;
	CHECK_EQ(get(get_metrics, &door), 200);
	outbuf_free(&door.page.text);
}

TEST(only_this_hosts_own_names_are_local)
{
	static const char *const ours[] = { "localhost", "LocalHost:8127", "127.0.0.1",
		"127.0.0.1:80", "[::1]", "[::1]:8127", "localhost:" };
	static const char *const others[] = { "", ":80", "example.com", "localhost.example.com",
		"localhost:80.example.com", "127.0.0.1.example.com", "127.0.0.1:8127x",
		"127.0.0.10", "127.0.0.1 ", "[::1].example.com", "::1", "[::2]", "localhostx",
		"0.0.0.0", "a@localhost", "localhost/", "127.1" };

	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		CHECK(host_is_local(ours[i]));
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		CHECK(!host_is_local(others[i]));
}

int
main(void)
{
	RUN(who_works_without_comfyui_is_healthy_and_not_ready);
	RUN(a_broken_comfyui_is_named);
	RUN(an_agent_that_ends_is_not_healthy);
	RUN(a_silent_pipeline_is_waited_for_once_and_not_called_dead_at_once);
	RUN(the_pipeline_has_half_a_minute);
	RUN(a_page_of_metrics_is_made_once_a_second_however_often_it_is_asked_for);
	RUN(the_port_does_not_wait_for_metrics_while_the_pipeline_is_busy);
	RUN(a_page_that_could_not_be_made_is_not_kept);
	RUN(only_this_hosts_own_names_are_local);
	outbuf_free(&out);
	return t_done();
}
