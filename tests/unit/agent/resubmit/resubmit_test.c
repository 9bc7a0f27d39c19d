/*
 * Jobs of a dead process and a server that takes them, refuses, or says nothing:
 * what arrives there, and how each job ends in the journal.
 */
#include "agent/resubmit/resubmit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/journal/journal.h"
#include "agent/resubmit/internal.h"
#include "agent/store/store.h"
#include "tests/t.h"

#define REQUESTS_MAX 16

/* Of the processor for the journal: no record is shown here. */
const char *
span_seen_text(const struct span_seen *s, uint32_t id, uint32_t *n)
{
	(void)s;
	(void)id;
	*n = 0;
	return NULL;
}

static char dir[] = "/tmp/cm-resubmit-XXXXXX";
static int server = -1;

/* The pipeline's thread is whoever asks, one at a time. */
static struct {
	pthread_mutex_t lock;
	struct store *store;
	struct journal *journal;
	struct probe_row dead, alive;
	bool somebody_lives;
} desk = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What the server answers to a POST, and what it got. */
static struct {
	pthread_mutex_t lock;
	pthread_t thread;
	int status; /* 0: hangs up */
	int hang_ups;
	unsigned count;
	char body[REQUESTS_MAX][64];
} far = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the agent ---------------------------------------------------------- */

static enum err
query(void *agent, agent_query_fn fn, void *ctx, uint64_t timeout_ms)
{
	enum err e;

	(void)agent;
	(void)timeout_ms;
	pthread_mutex_lock(&desk.lock);
	e = fn(ctx, desk.store, NULL);
	pthread_mutex_unlock(&desk.lock);
	return e;
}

static enum err
act(void *agent, agent_journal_fn fn, void *ctx, uint64_t timeout_ms)
{
	const struct store_ops *ops = desk.store->ops;
	enum err e;

	(void)agent;
	(void)timeout_ms;
	pthread_mutex_lock(&desk.lock);
	e = fn(ctx, desk.store, desk.journal);
	if (e == E_OK && (e = ops->begin(desk.store)) == E_OK) {
		e = journal_write(desk.journal);
		if (e == E_OK)
			e = ops->commit(desk.store);
		journal_commit(desk.journal);
	}
	pthread_mutex_unlock(&desk.lock);
	return e;
}

/* One of another supervisor, one of ours that has not answered yet, then who serves. */
static void
tell_health(void *agent, struct status_health *out)
{
	struct sockaddr_in at = { .sin_port = 0 };
	socklen_t n = sizeof at;

	(void)agent;
	memset(out, 0, sizeof *out);
	CHECK_EQ(getsockname(server, (struct sockaddr *)&at, &n), 0);
	out->process_count = desk.somebody_lives ? 3 : 2;
	for (size_t i = 0; i < out->process_count; i++) {
		struct status_process *p = &out->processes[i];

		snprintf(p->life, sizeof p->life, "%d-2-00c0ffee", i == 0 ? 1 : (int)getpid());
		snprintf(p->address, sizeof p->address, "127.0.0.1");
		p->port = i == 1 ? 0 : ntohs(at.sin_port);
	}
}

static void
put_probe(struct probe_row *row, uint8_t id, const char *supervisor)
{
	struct wire_attrs attrs = { .buf = row->attrs, .cap = sizeof row->attrs };
	char life[64];

	memset(row->probe_id, id, sizeof row->probe_id);
	row->pid = (uint64_t)getpid();
	snprintf(life, sizeof life, "%d-%d-%s", (int)getpid(), id, supervisor);
	wire_attr_put(&attrs, "life", life);
	row->attrs_bytes = attrs.used;
	CHECK_EQ(desk.store->ops->probe_put(desk.store, row), E_OK);
}

static void
open_desk(bool somebody_lives)
{
	struct store_limits limits = { 0 };
	struct journal_options o = { .notices = false };

	memset(&desk.dead, 0, sizeof desk.dead);
	memset(&desk.alive, 0, sizeof desk.alive);
	if (store_ram_new(&limits, &desk.store) != E_OK)
		abort();
	o.store = desk.store;
	CHECK_EQ(journal_new(&o, &desk.journal), E_OK);
	CHECK_EQ(desk.store->ops->begin(desk.store), E_OK);
	put_probe(&desk.dead, 1, "00c0ffee");
	CHECK_EQ(desk.store->ops->probe_close(desk.store, desk.dead.id), E_OK);
	put_probe(&desk.alive, 2, "00c0ffee");
	desk.somebody_lives = somebody_lives;
	CHECK_EQ(desk.store->ops->commit(desk.store), E_OK);
}

static void
close_desk(void)
{
	journal_free(desk.journal);
	desk.store->ops->close(desk.store);
}

static int64_t
put_job(const struct job_row *j)
{
	struct job_row row = *j;

	CHECK_EQ(desk.store->ops->begin(desk.store), E_OK);
	CHECK_EQ(desk.store->ops->job_put(desk.store, &row), E_OK);
	CHECK_EQ(desk.store->ops->commit(desk.store), E_OK);
	return row.id;
}

/* A job that waited in the dead process, and its file if it has one. */
static int64_t
put_waiting(const char *prompt_id, double number, bool secret, bool file, const char *end)
{
	struct job_row j = { .probe = desk.dead.id, .item = -1, .state = JOB_QUEUED };
	char path[512], json[64] = "";
	FILE *f;

	memcpy(j.boot_id, desk.dead.probe_id, sizeof j.boot_id);
	snprintf(j.prompt_id, sizeof j.prompt_id, "%s", prompt_id);
	snprintf(j.body, sizeof j.body, "%s-0.json", prompt_id);
	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME "/%s%s", dir, j.body, end);
	if (!secret)
		snprintf(json, sizeof json, "{\"prompt_id\":\"%s\"}", prompt_id);
	if (file && (f = fopen(path, "we")) != NULL) {
		fprintf(f,
		    BODY_MAGIC "number=%g workflow=3fa91c02 probe=%032x secret=%d bytes=%zu\n%s",
		    number, 1, secret, strlen(json), json);
		fclose(f);
	}
	return put_job(&j);
}

static struct job_row
job_of(int64_t id)
{
	struct job_row j = { 0 };

	pthread_mutex_lock(&desk.lock);
	CHECK_EQ(desk.store->ops->job_get(desk.store, id, &j), E_OK);
	pthread_mutex_unlock(&desk.lock);
	return j;
}

static enum job_state
end_of(int64_t id)
{
	struct job_row j = job_of(id);

	for (int i = 0; i < 1500 && j.state == JOB_QUEUED; i++) {
		usleep(10000);
		j = job_of(id);
	}
	return j.state;
}

static struct resubmit *
begin(uint64_t give_up_ms)
{
	struct resubmit_options o = { .run_dir = dir, .give_up_ms = give_up_ms };
	struct agent_view view = { .query = query, .act = act, .health = tell_health };
	struct resubmit *r;

	if (resubmit_new(&o, &r) != E_OK || resubmit_start(r, &view) != E_OK)
		abort();
	return r;
}

static bool
file_is_there(const char *name)
{
	char path[512];

	snprintf(path, sizeof path, "%s/" RUN_BODIES_NAME "/%s", dir, name);
	return access(path, F_OK) == 0;
}

/* From now on; and nothing has come yet. */
static void
answers(int status, int hang_ups)
{
	pthread_mutex_lock(&far.lock);
	far.status = status;
	far.hang_ups = hang_ups;
	far.count = 0;
	pthread_mutex_unlock(&far.lock);
}

static unsigned
came(void)
{
	unsigned n;

	pthread_mutex_lock(&far.lock);
	n = far.count;
	pthread_mutex_unlock(&far.lock);
	return n;
}

/* ---- the server --------------------------------------------------------- */

static void
answer(int fd)
{
	char text[1024], out[128];
	ssize_t n = 0, k;
	char *body = NULL;
	int status = 200;

	while (n < (ssize_t)sizeof text - 1 &&
	       (k = recv(fd, text + n, sizeof text - 1 - (size_t)n, 0)) > 0) {
		char *length, *end;

		text[n += k] = '\0';
		if ((end = strstr(text, "\r\n\r\n")) == NULL)
			continue;
		body = end + 4;
		length = strstr(text, "Content-Length: ");
		if (length == NULL || strlen(body) >= strtoul(length + 16, NULL, 10))
			break;
	}
	if (body == NULL)
		return;
	if (strncmp(text, "POST /prompt ", 13) == 0) {
		pthread_mutex_lock(&far.lock);
		status = far.hang_ups > 0 ? 0 : far.status;
		far.hang_ups -= far.hang_ups > 0;
		if (far.count < REQUESTS_MAX)
			snprintf(far.body[far.count++], sizeof far.body[0], "%s", body);
		pthread_mutex_unlock(&far.lock);
	}
	if (status == 0)
		return;
	k = snprintf(out, sizeof out, "HTTP/1.0 %d x\r\n\r\n{\"exec_info\":{}}", status);
	CHECK_EQ(send(fd, out, (size_t)k, MSG_NOSIGNAL), k);
}

static void *
serve(void *arg)
{
	int fd;

	(void)arg;
	while ((fd = accept(server, NULL, NULL)) >= 0) {
		answer(fd);
		close(fd);
	}
	return NULL;
}

/* ---- tests -------------------------------------------------------------- */

TEST(they_are_posted_in_the_order_of_the_queue)
{
	open_desk(true);
	answers(200, 0);

	int64_t late = put_waiting("late", 7, false, true, "");
	int64_t front = put_waiting("front", -1, false, true, "");
	int64_t early = put_waiting("early", 3, false, true, "");
	struct resubmit *r = begin(0);

	CHECK_EQ(end_of(late), JOB_RESUBMITTED);
	CHECK_EQ(end_of(front), JOB_RESUBMITTED);
	CHECK_EQ(end_of(early), JOB_RESUBMITTED);
	resubmit_free(r);
	CHECK_EQ(came(), 3);
	CHECK_STR(far.body[0], "{\"prompt_id\":\"front\"}");
	CHECK_STR(far.body[1], "{\"prompt_id\":\"early\"}");
	CHECK_STR(far.body[2], "{\"prompt_id\":\"late\"}");
	CHECK(!file_is_there("late-0.json") && !file_is_there("late-0.json.sent"));
	close_desk();
}

TEST(who_cannot_be_posted_is_lost_by_name)
{
	open_desk(true);
	answers(400, 0);

	int64_t refused = put_waiting("refused", 1, false, true, "");
	int64_t secret = put_waiting("secret", 2, true, true, "");
	int64_t missing = put_waiting("missing", 3, false, false, "");
	struct resubmit *r = begin(0);

	CHECK_EQ(end_of(refused), JOB_LOST);
	CHECK_EQ(end_of(secret), JOB_LOST);
	CHECK_EQ(end_of(missing), JOB_LOST);
	resubmit_free(r);
	CHECK_STR(job_of(refused).reason, "refused");
	CHECK_STR(job_of(secret).reason, "needs_secret");
	CHECK_STR(job_of(missing).reason, "body_missing");
	CHECK_EQ(came(), 1);
	CHECK(!file_is_there("secret-0.json"));
	close_desk();
}

/* ... and what comes behind it does not overtake it meanwhile. */
TEST(after_a_lost_answer_it_is_asked_for_before_it_is_posted_again)
{
	open_desk(true);
	answers(200, 1);

	int64_t first = put_waiting("first", 1, false, true, "");
	int64_t second = put_waiting("second", 2, false, true, "");
	struct job_row again = { .probe = desk.alive.id, .item = -1, .state = JOB_QUEUED };
	struct resubmit *r = begin(0);

	for (int i = 0; i < 500 && !file_is_there("first-0.json.sent"); i++)
		usleep(10000);
	usleep(700000);
	CHECK_EQ(job_of(first).state, JOB_QUEUED);
	CHECK_EQ(job_of(second).state, JOB_QUEUED);
	/* It had arrived. */
	memcpy(again.boot_id, desk.alive.probe_id, sizeof again.boot_id);
	snprintf(again.prompt_id, sizeof again.prompt_id, "first");
	pthread_mutex_lock(&desk.lock);
	put_job(&again);
	pthread_mutex_unlock(&desk.lock);
	CHECK_EQ(end_of(first), JOB_RESUBMITTED);
	CHECK_EQ(end_of(second), JOB_RESUBMITTED);
	resubmit_free(r);
	CHECK_EQ(came(), 2);
	CHECK_STR(far.body[1], "{\"prompt_id\":\"second\"}");
	close_desk();
}

TEST(what_never_arrived_is_posted_again)
{
	open_desk(true);
	answers(200, 0);

	int64_t job = put_waiting("again", 1, false, true, ".sent"); /* by an agent that died */
	struct resubmit *r = begin(0);

	CHECK_EQ(end_of(job), JOB_RESUBMITTED);
	resubmit_free(r);
	CHECK_EQ(came(), 1);
	close_desk();
}

TEST(a_job_that_another_comfyui_was_sent_is_not_the_one_that_arrived)
{
	struct probe_row stranger = { .id = 0 };
	struct job_row same_id = { .item = -1, .state = JOB_SUCCEEDED, .prompt_id = "again" };
	struct resubmit *r;
	int64_t job;

	open_desk(true);
	answers(200, 0);
	job = put_waiting("again", 1, false, true, ".sent");
	put_probe(&stranger, 3, "deadbeef"); /* of another supervisor */
	same_id.probe = stranger.id;
	memcpy(same_id.boot_id, stranger.probe_id, sizeof same_id.boot_id);
	put_job(&same_id);
	r = begin(0);
	CHECK_EQ(end_of(job), JOB_RESUBMITTED);
	resubmit_free(r);
	CHECK_EQ(came(), 1);
	close_desk();
}

TEST(a_workflow_that_was_at_work_at_two_deaths_is_not_posted)
{
	struct job_row failed = { .item = -1,
		.state = JOB_FAILED,
		.reason = "crash_segv",
		.certainty = "certain",
		.workflow = "SaveImage 3fa91c02" };

	open_desk(true);
	answers(200, 0);
	failed.probe = desk.dead.id;
	put_job(&failed);
	snprintf(failed.reason, sizeof failed.reason, "stopped");
	put_job(&failed); /* says nothing against it */

	int64_t once = put_waiting("once", 1, false, true, "");
	struct resubmit *r = begin(0);

	CHECK_EQ(end_of(once), JOB_RESUBMITTED);
	resubmit_free(r);
	snprintf(failed.reason, sizeof failed.reason, "oom_cgroup");
	put_job(&failed);

	int64_t twice = put_waiting("twice", 1, false, true, "");

	answers(200, 0);
	r = begin(0);
	CHECK_EQ(end_of(twice), JOB_LOST);
	resubmit_free(r);
	CHECK_STR(job_of(twice).reason, "quarantined 3fa91c02 SaveImage");
	CHECK_EQ(came(), 0);
	close_desk();
}

TEST(nobody_is_waited_for_longer_than_patience_lasts)
{
	open_desk(false);
	answers(200, 0);

	int64_t job = put_waiting("patient", 1, false, true, "");
	struct resubmit *r = begin(600);

	usleep(300000);
	CHECK_EQ(job_of(job).state, JOB_QUEUED);
	CHECK_EQ(end_of(job), JOB_LOST);
	resubmit_free(r);
	CHECK_STR(job_of(job).reason, "not_restarted");
	CHECK_EQ(came(), 0);
	close_desk();
}

TEST(who_dies_later_is_served_when_it_is_woken)
{
	open_desk(true);
	answers(200, 0);

	struct resubmit *r = begin(0);

	usleep(200000);
	pthread_mutex_lock(&desk.lock);
	int64_t job = put_waiting("later", 1, false, true, "");
	pthread_mutex_unlock(&desk.lock);
	usleep(400000);
	CHECK_EQ(job_of(job).state, JOB_QUEUED); /* it sleeps */
	resubmit_wake(r);
	CHECK_EQ(end_of(job), JOB_RESUBMITTED);
	resubmit_free(r);
	close_desk();
}

TEST(a_place_is_what_health_has_found)
{
	struct status_process p = { .port = 8188, .address = "127.0.0.1" };
	struct sockaddr_storage to;
	socklen_t n = 0;

	CHECK(place_of(&p, &to, &n));
	CHECK(to.ss_family == AF_INET && n == sizeof(struct sockaddr_in));
	CHECK_EQ(ntohs(((struct sockaddr_in *)&to)->sin_port), 8188);
	p.tls = true;
	CHECK(!place_of(&p, &to, &n));
	p.tls = false;
	snprintf(p.address, sizeof p.address, "::1");
	CHECK(place_of(&p, &to, &n));
	CHECK(to.ss_family == AF_INET6 && n == sizeof(struct sockaddr_in6));
	CHECK(IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&to)->sin6_addr));
	CHECK_EQ(ntohs(((struct sockaddr_in6 *)&to)->sin6_port), 8188);
	p.port = 0;
	CHECK(!place_of(&p, &to, &n));
	p = (struct status_process){ .port = 8188 };
	CHECK(!place_of(&p, &to, &n));
}

static void
open_server(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (server < 0 || bind(server, (struct sockaddr *)&at, sizeof at) != 0 ||
	    listen(server, 16) != 0)
		abort();
}

int
main(void)
{
	char command[128];

	open_server();
	snprintf(command, sizeof command, "%s/" RUN_BODIES_NAME, mkdtemp(dir));
	if (mkdir(command, 0700) != 0 || pthread_create(&far.thread, NULL, serve, NULL) != 0)
		return 2;
	RUN(they_are_posted_in_the_order_of_the_queue);
	RUN(who_cannot_be_posted_is_lost_by_name);
	RUN(after_a_lost_answer_it_is_asked_for_before_it_is_posted_again);
	RUN(what_never_arrived_is_posted_again);
	RUN(a_job_that_another_comfyui_was_sent_is_not_the_one_that_arrived);
	RUN(a_workflow_that_was_at_work_at_two_deaths_is_not_posted);
	RUN(nobody_is_waited_for_longer_than_patience_lasts);
	RUN(who_dies_later_is_served_when_it_is_woken);
	RUN(a_place_is_what_health_has_found);
	shutdown(server, SHUT_RDWR);
	pthread_join(far.thread, NULL);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || t_done();
}
