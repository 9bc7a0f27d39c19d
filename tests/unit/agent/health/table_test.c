/*
 * table_test.c - what greetings and records make of a ComfyUI: on this very
 * process and its threads, with looks by hand.
 */
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/health/health.h"
#include "agent/health/proc.h"
#include "tests/t.h"

enum { KEY_THREAD = 1, KEY_STATUS, KEY_DEVICE, KEY_DIED, TEXT_SUCCESS, TEXT_TRUE, TEXTS };
static const char *const texts[TEXTS] = { "", "thread.id", "workflow.status", "device_error",
	"workflow.worker_died", "success", "true" };

/* The processor's: strings of a record by their id. */
const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	(void)s;
	*n = id < TEXTS ? (uint32_t)strlen(texts[id]) : 0;
	return id < TEXTS ? texts[id] : NULL;
}

static unsigned asked;
static enum health_state asked_for;

static enum err
restart(void *ctx, const char *life, enum health_state why, const char *detail)
{
	(void)ctx;
	CHECK_STR(life, "1-1-abcdef01");
	CHECK(detail[0] != '\0');
	asked++;
	asked_for = why;
	return E_OK;
}

static struct probe_row
ourselves(int64_t id)
{
	struct probe_row row = { .id = id, .pid = (uint64_t)getpid() };
	struct wire_attrs attrs = { .buf = row.attrs, .cap = sizeof row.attrs };
	struct proc_stat s = { .state = '?' };

	CHECK_EQ(proc_stat(row.pid, 0, &s), E_OK);
	row.probe_id[0] = (uint8_t)id;
	row.start_ticks = s.start_ticks;
	wire_attr_put(&attrs, "life", "1-1-abcdef01");
	row.attrs_bytes = attrs.used;
	return row;
}

static struct health *
begin(uint32_t policy)
{
	struct health_options o = { .restart = policy, .restart_fn = restart };
	struct health *h = NULL;

	asked = 0;
	if (health_new(&o, &h) != E_OK)
		abort();
	return h;
}

static void
job(struct health *h, int64_t probe, uint64_t span, bool open, uint16_t flags, uint32_t key,
    uint32_t value)
{
	uint8_t buf[256];
	struct wire_tags tags = { .buf = buf, .cap = sizeof buf };
	struct wire_span w = { .trace_lo = span, .span_id = span, .flags = flags, .tags = buf };

	if (key == KEY_THREAD)
		wire_tag_f64(&tags, key, value);
	else if (key != 0)
		wire_tag_str(&tags, key, value);
	w.tag_count = tags.count;
	w.tag_bytes = tags.used;
	health_seen(h,
	    &(struct span_seen){ .probe = probe, .kind = SPAN_WORKFLOW, .open = open, .span = &w });
}

static struct status_health *
seen(struct health *h)
{
	static struct status_health s;

	health_look(h);
	health_status(h, &s);
	return &s;
}

TEST(two_failures_of_the_device_cost_one_life_once)
{
	struct health *h = begin(1u << HEALTH_CUDA_POISONED);
	struct probe_row row = ourselves(1), again = ourselves(2);

	health_hello(h, &row);
	job(h, 1, 1, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	job(h, 1, 1, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE); /* fed once more */
	CHECK(seen(h)->processes[0].state != HEALTH_CUDA_POISONED);
	job(h, 1, 2, false, 0, KEY_STATUS, TEXT_SUCCESS);
	job(h, 1, 3, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	CHECK(seen(h)->processes[0].state != HEALTH_CUDA_POISONED);
	CHECK(seen(h)->healthy);
	CHECK_STR(seen(h)->wrong, "");
	job(h, 1, 4, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	CHECK_EQ(seen(h)->processes[0].state, HEALTH_CUDA_POISONED);
	CHECK_EQ(seen(h)->ill[HEALTH_CUDA_POISONED], 1);
	CHECK(!seen(h)->healthy && !seen(h)->ready);
	CHECK(strstr(seen(h)->wrong, " is cuda_poisoned: 2 jobs in a row") != NULL);
	CHECK_EQ(asked, 1);
	CHECK_EQ(asked_for, HEALTH_CUDA_POISONED);
	/* It has begun anew in place: the old one is forgotten, the life is the same. */
	health_hello(h, &again);
	CHECK_EQ(seen(h)->process_count, 1);
	job(h, 2, 5, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	job(h, 2, 6, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	CHECK_EQ(seen(h)->processes[0].state, HEALTH_CUDA_POISONED);
	CHECK_EQ(asked, 1);
	health_free(h);
}

TEST(what_is_known_of_workers_outlives_the_agent)
{
	struct health *h = begin(0);
	struct probe_row row = ourselves(1);
	uint8_t memo[HEALTH_MEMO_BYTES];
	size_t n;

	health_hello(h, &row);
	CHECK_EQ(health_memo(h, memo), 0);
	job(h, 1, 1, true, 0, KEY_THREAD, (uint32_t)getpid());
	job(h, 1, 1, false, WIRE_SPAN_JOB_FAILED, KEY_DEVICE, TEXT_TRUE);
	CHECK_EQ(seen(h)->processes[0].worker, (uint64_t)getpid());
	CHECK(seen(h)->processes[0].worker_alive);
	n = health_memo(h, memo);
	CHECK(n > 0);
	health_kept(h);
	uint8_t more[HEALTH_MEMO_BYTES];
	CHECK_EQ(health_memo(h, more), 0);
	health_free(h);
	h = begin(0);
	health_remember(h, memo, n);
	health_hello(h, &row);
	CHECK_EQ(seen(h)->processes[0].worker, (uint64_t)getpid());
	CHECK_EQ(seen(h)->processes[0].device_failures, 1);
	health_free(h);
}

TEST(a_pid_that_is_anothers_and_a_fork_are_not_watched)
{
	struct health *h = begin(0);
	struct probe_row row = ourselves(1), fork = ourselves(2);
	struct wire_attrs attrs = { .buf = fork.attrs, .cap = sizeof fork.attrs };

	row.start_ticks--; /* the pid was given again */
	health_hello(h, &row);
	CHECK_EQ(seen(h)->processes[0].state, HEALTH_UNKNOWN);
	CHECK(!seen(h)->ready);
	health_gone(h, 1);
	CHECK_EQ(seen(h)->process_count, 0);
	wire_attr_put(&attrs, "pid", "1"); /* its parent's */
	fork.attrs_bytes = attrs.used;
	health_hello(h, &fork);
	CHECK_EQ(seen(h)->process_count, 0);
	health_free(h);
}

TEST(who_cannot_be_looked_at_for_lack_of_descriptors_is_not_gone)
{
	struct health *h = begin(1u << HEALTH_ZOMBIE);
	struct probe_row row = ourselves(1);
	struct rlimit was, none;
	int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);

	health_hello(h, &row);
	job(h, 1, 1, true, 0, KEY_THREAD, (uint32_t)getpid());
	CHECK(seen(h)->processes[0].worker_alive);
	close(lowest);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &was), 0);
	none = (struct rlimit){ (rlim_t)lowest, was.rlim_max };
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
	CHECK_EQ(seen(h)->process_count, 1);
	CHECK(seen(h)->processes[0].worker_alive);
	CHECK_EQ(seen(h)->processes[0].state, HEALTH_STARTING);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &was), 0);
	CHECK(seen(h)->processes[0].worker_alive);
	health_free(h);
}

TEST(a_listening_line_is_an_address_to_connect_to)
{
	static const char any4[] = "   0: 00000000:1FFC 00000000:0000 0A 00000000:00000000 "
				   "00:00000000 00000000  1000        0 81731 1 0 100 0 0 10 0",
			  one6[] = "   1: 00000000000000000000000001000000:1FFD "
				   "00000000000000000000000000000000:0000 0A 00000000:00000000 "
				   "00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0",
			  busy[] = "   2: 0100007F:1FFC 0100007F:9999 01 00000000:00000000 "
				   "00:00000000 00000000  1000        0 81732 1 0 20 4 30 10 -1";
	union proc_address a;
	uint64_t inode = 0;

	CHECK(proc_tcp_line(any4, &a, &inode));
	CHECK_EQ(inode, 81731);
	CHECK_EQ(a.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(proc_address_port(&a), 8188);
	CHECK(proc_tcp_line(one6, &a, &inode));
	CHECK(IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr));
	CHECK_EQ(proc_address_port(&a), 8189);
	CHECK(!proc_tcp_line(busy, &a, &inode));
	CHECK(!proc_tcp_line("  sl  local_address rem_address   st", &a, &inode));
	CHECK(!proc_tcp_line("   0: zz:1 0:0 0A 0:0 0:0 0 0 0 1", &a, &inode));
}

int
main(void)
{
	RUN(two_failures_of_the_device_cost_one_life_once);
	RUN(what_is_known_of_workers_outlives_the_agent);
	RUN(a_pid_that_is_anothers_and_a_fork_are_not_watched);
	RUN(who_cannot_be_looked_at_for_lack_of_descriptors_is_not_gone);
	RUN(a_listening_line_is_an_address_to_connect_to);
	return t_done();
}
