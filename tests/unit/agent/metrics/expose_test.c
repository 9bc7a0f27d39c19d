/*
 * The scrape page: heads, samples, labels. That others can read it is asked of
 * two parsers in tests/integration/metrics.
 */
#include "agent/metrics/metrics.h"
#include "agent/metrics/text.h"
#include "tests/unit/agent/metrics/snapshot.h"

static char *
page_of(const struct status_snapshot *s)
{
	struct outbuf out = { 0 };

	if (metrics_expose(s, &out) != E_OK)
		abort();
	outbuf_put(&out, "", 1);
	return (char *)out.p;
}

static unsigned
times(const char *page, const char *text)
{
	unsigned n = 0;

	for (const char *p = page; (p = strstr(p, text)) != NULL; p++)
		n++;
	return n;
}

TEST(writes_each_head_once_with_its_samples_behind_it)
{
	struct status_snapshot *s = snapshot_plain();
	char *page = page_of(s);

	CHECK_EQ(
	    times(page, "# HELP comfymon_pipeline_received_spans_total spans that came in"), 1);
	CHECK_EQ(times(page, "# TYPE comfymon_pipeline_received_spans_total counter\n"
			     "comfymon_pipeline_received_spans_total{signal=\"trace\"} 100\n"),
	    1);
	CHECK_EQ(times(page, "# TYPE comfymon_agent_uptime_seconds gauge\n"
			     "comfymon_agent_uptime_seconds 17\n"),
	    1);
	CHECK_EQ(times(page, "comfymon_agent_cpu_seconds_total 1.500000007\n"), 1);
	CHECK_EQ(times(page, "\ncomfymon_pipeline_dropped_spans_total{signal=\"trace\",reason="
			     "\"too_old\"} 3\n"),
	    1);
	CHECK_EQ(times(page, "# TYPE comfymon_process_"), 0);
	CHECK_EQ(times(page, "comfymon_agent_rss"), 0); /* not known: no head either */
	free(page);
	free(s);
}

TEST(escapes_what_ends_a_label)
{
	char out[LABEL_VALUE_MAX + 1], all[400];

	CHECK_EQ(text_label(out, "a\\b\"c\nd|e", 9), 12);
	CHECK_STR(out, "a\\\\b\\\"c\\nd|e");
	memset(all, '"', sizeof all);
	CHECK_EQ(text_label(out, all, sizeof all), LABEL_VALUE_MAX);
}

TEST(keeps_to_lines_whatever_the_texts_are)
{
	struct status_snapshot *s = snapshot_full();
	char *page = page_of(s), *save = NULL;
	unsigned samples = 0;

	for (char *line = strtok_r(page, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "# HELP comfymon_", 16) == 0 ||
		    strncmp(line, "# TYPE comfymon_", 16) == 0)
			continue;
		CHECK(strncmp(line, "comfymon_", 9) == 0);
		CHECK(strspn(strrchr(line, ' ') + 1, "-.e+0123456789") ==
		      strlen(strrchr(line, ' ') + 1));
		samples++;
	}
	CHECK(samples > 500);
	free(page);
	free(s);
}

int
main(void)
{
	RUN(writes_each_head_once_with_its_samples_behind_it);
	RUN(escapes_what_ends_a_label);
	RUN(keeps_to_lines_whatever_the_texts_are);
	return t_done();
}
