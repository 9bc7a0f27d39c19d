/*
 * From evidence to a cause: an exit status alone proves nothing.
 */
#include "agent/supervisor/death.h"

#include <signal.h>

#include "tests/t.h"

#define BY_SIGNAL(s)  (s)
#define BY_EXIT(code) ((code) << 8)

TEST(names_a_cause_for_every_kind_of_end)
{
	static const struct {
		struct evidence e;
		enum cause cause;
		enum certainty certainty;
	} rows[] = {
		{ { .status = BY_SIGNAL(SIGKILL), .has_cgroup = true, .cgroup_oom_kills = 1 },
		    CAUSE_OOM_CGROUP, CERTAIN },
		{ { .status = BY_SIGNAL(SIGKILL), .log = OOM_LOG_HOST, .host_oom_kills = 1 },
		    CAUSE_OOM_KERNEL, CERTAIN },
		/* For the limit of a container, as its host's log says. */
		{ { .status = BY_SIGNAL(SIGKILL), .log = OOM_LOG_CGROUP, .host_oom_kills = 1 },
		    CAUSE_OOM_CGROUP, CERTAIN },
		/* Its cgroup counts who dies of the host's memory too. */
		{ { .status = BY_SIGNAL(SIGKILL),
		      .has_cgroup = true,
		      .cgroup_oom_kills = 1,
		      .log = OOM_LOG_HOST },
		    CAUSE_OOM_KERNEL, CERTAIN },
		{ { .status = BY_SIGNAL(SIGKILL),
		      .has_cgroup = true,
		      .cgroup_oom_kills = 1,
		      .limit_not_reached = true },
		    CAUSE_OOM_KERNEL, LIKELY },
		{ { .status = BY_SIGNAL(SIGKILL),
		      .has_cgroup = true,
		      .cgroup_oom_kills = 1,
		      .limit_not_reached = true,
		      .outer_limit_reached = true },
		    CAUSE_OOM_CGROUP, LIKELY },
		/* A child of it, perhaps. */
		{ { .status = BY_SIGNAL(SIGKILL),
		      .has_cgroup = true,
		      .cgroup_oom_kills = 1,
		      .oom_age_ms = 4000 },
		    CAUSE_OOM_CGROUP, LIKELY },
		{ { .status = BY_SIGNAL(SIGKILL), .outer_oom_kills = 1, .host_oom_kills = 1 },
		    CAUSE_OOM_CGROUP, LIKELY },
		{ { .status = BY_SIGNAL(SIGKILL), .host_oom_kills = 1 }, CAUSE_OOM_KERNEL, LIKELY },
		{ { .status = BY_SIGNAL(SIGKILL), .host_oom_kills = 1, .has_cgroup = true },
		    CAUSE_KILLED, CERTAIN },
		{ { .status = BY_SIGNAL(SIGKILL), .has_cgroup = true }, CAUSE_KILLED, CERTAIN },
		{ { .status = BY_SIGNAL(SIGKILL) }, CAUSE_KILLED, LIKELY },
		{ { .status = BY_SIGNAL(SIGKILL), .asked = ASKED_LIMIT }, CAUSE_LIMIT_WATCH,
		    CERTAIN },
		{ { .status = BY_SIGNAL(SIGTERM) }, CAUSE_KILLED, CERTAIN },
		{ { .status = BY_SIGNAL(SIGSEGV) }, CAUSE_CRASH_SEGV, CERTAIN },
		{ { .status = BY_SIGNAL(SIGBUS) | 0x80 }, CAUSE_CRASH_SEGV, CERTAIN }, /* core */
		{ { .status = BY_SIGNAL(SIGABRT) }, CAUSE_CRASH_ABORT, CERTAIN },
		{ { .status = BY_SIGNAL(SIGABRT), .asked = ASKED_STOP }, CAUSE_STOPPED, CERTAIN },
		{ { .status = BY_SIGNAL(SIGKILL), .asked = ASKED_ORDER, .order = CAUSE_HANG },
		    CAUSE_HANG, CERTAIN },
		{ { .status = BY_EXIT(0), .asked = ASKED_ORDER, .order = CAUSE_ZOMBIE },
		    CAUSE_ZOMBIE, CERTAIN },
		{ { .status = BY_EXIT(0) }, CAUSE_EXIT_CLEAN, CERTAIN },
		{ { .status = BY_EXIT(0), .reboot_file = true }, CAUSE_MANAGER_RESTART, CERTAIN },
		{ { .status = BY_EXIT(1) }, CAUSE_EXIT_ERROR, CERTAIN },
		{ { .status = BY_EXIT(1), .port_line = true }, CAUSE_PORT_IN_USE, LIKELY },
		{ { .status = BY_EXIT(1), .port_line = true, .port = 8188, .port_taken = true },
		    CAUSE_PORT_IN_USE, CERTAIN },
		/* It has listened: those lines speak of something else. */
		{ { .status = BY_EXIT(1), .port_line = true, .port = 8188, .listened = true },
		    CAUSE_EXIT_ERROR, CERTAIN },
		{ { .status = BY_EXIT(137) }, CAUSE_EXIT_ERROR, CERTAIN },
		{ { .status = BY_EXIT(137), .cgroup_oom_kills = 2 }, CAUSE_OOM_CGROUP, CERTAIN },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct death d;

		death_of(&rows[i].e, &d);
		CHECK_STR(cause_name(d.cause), cause_name(rows[i].cause));
		CHECK_STR(certainty_name(d.certainty), certainty_name(rows[i].certainty));
		CHECK(d.lines > 0);
		CHECK((d.signal > 0) != (d.exit_code >= 0));
	}
}

TEST(says_the_memory_beside_a_kill)
{
	struct evidence e = { .status = SIGKILL,
		.cgroup_oom_kills = 1,
		.limit_bytes = 2048ull << 20,
		.last_bytes = 900ull << 20,
		.peak_bytes = 2047ull << 20 };
	struct death d;

	death_of(&e, &d);
	CHECK_STR(d.text[d.lines - 1], "memory limit 2.0 GiB, last seen 900 MiB, peak 2.0 GiB");
}

TEST(says_how_far_over_the_limit_it_was_when_we_killed_it)
{
	struct evidence e = { .status = SIGKILL,
		.asked = ASKED_LIMIT,
		.limit_bytes = 200 << 20,
		.last_bytes = 230 << 20 };
	struct death d;

	death_of(&e, &d);
	CHECK_STR(d.text[0], "we killed it: when we looked, its memory was 30 MiB over the limit");
}

TEST(says_in_the_orders_words_why_it_was_ended)
{
	struct evidence e = { .status = SIGKILL,
		.asked = ASKED_ORDER,
		.order = CAUSE_ZOMBIE,
		.order_text = "zombie: thread 4711 has gone" };
	struct death d;

	death_of(&e, &d);
	CHECK_STR(d.text[0], "zombie: thread 4711 has gone");
	CHECK_STR(d.text[1], "we ended it: signal 9 (SIGKILL)");
}

TEST(says_that_it_died_at_its_start_when_its_server_was_not_seen)
{
	struct evidence e = { .status = BY_EXIT(1), .port = 8188, .uptime_ms = 4230 };
	struct death d;

	death_of(&e, &d);
	CHECK_STR(d.text[d.lines - 1],
	    "4.2 s after its start; it was not seen to listen on port 8188 by then");
	e.listened = true;
	death_of(&e, &d);
	CHECK_EQ(d.lines, 1);
	/* Who listens in its place hides it; and after so long its port is another one. */
	e.listened = false;
	e.port_taken = true;
	death_of(&e, &d);
	CHECK_EQ(d.lines, 1);
	e.port_taken = false;
	e.uptime_ms = 3600000;
	death_of(&e, &d);
	CHECK_EQ(d.lines, 1);
}

TEST(says_first_what_decided)
{
	static const struct {
		struct evidence e;
		const char *first;
	} rows[] = {
		{ { .status = BY_SIGNAL(SIGSEGV), .limit_bytes = 1 << 30 },
		    "ended by signal 11 (SIGSEGV)" },
		{ { .status = BY_EXIT(3), .port = 8188 }, "exit code 3" },
		{ { .status = BY_SIGNAL(SIGKILL), .has_cgroup = true, .cgroup_oom_kills = 1 },
		    "the oom_kill counter of its cgroup rose by 1" },
		{ { .status = BY_SIGNAL(SIGKILL) },
		    "somebody else killed it: no OOM counter rose" },
		{ { .status = BY_SIGNAL(SIGINT), .asked = ASKED_STOP }, "it was told to stop" },
		{ { .status = BY_EXIT(1), .port_line = true },
		    "its last lines say that the address is in use" },
	};

	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct death d;

		death_of(&rows[i].e, &d);
		CHECK_STR(d.text[0], rows[i].first);
	}
}

TEST(calls_a_failure_only_what_nobody_wanted)
{
	for (int c = 0; c < CAUSE_COUNT; c++)
		CHECK_EQ(cause_is_failure((enum cause)c),
		    c != CAUSE_EXIT_CLEAN && c != CAUSE_STOPPED && c != CAUSE_MANAGER_RESTART &&
			c != CAUSE_LIMIT_SOFT);
}

int
main(void)
{
	RUN(names_a_cause_for_every_kind_of_end);
	RUN(says_the_memory_beside_a_kill);
	RUN(says_how_far_over_the_limit_it_was_when_we_killed_it);
	RUN(says_in_the_orders_words_why_it_was_ended);
	RUN(says_that_it_died_at_its_start_when_its_server_was_not_seen);
	RUN(says_first_what_decided);
	RUN(calls_a_failure_only_what_nobody_wanted);
	return t_done();
}
