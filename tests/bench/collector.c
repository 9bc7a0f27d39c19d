/*
 * collector.c - see collector.h.
 */
#include "tests/bench/collector.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "schema/wire.h"

#define READY_LIMIT_S 10.0

static double spawned;

static _Noreturn void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static double
seconds(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) != 0)
		fail("clock");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *
program(void)
{
	static char path[512];
	const char *given = getenv("COMFYMON_BIN");
	ssize_t n;
	char *slash;

	if (given != NULL)
		return given;
	n = readlink("/proc/self/exe", path, sizeof path - 16);
	if (n <= 0 || (path[n] = 0, slash = strrchr(path, '/')) == NULL)
		fail("bench: where am I");
	strcpy(slash, "/comfymon");
	return path;
}

void
collector_init(struct collector *c, const char *url)
{
	const char *tmp = getenv("TMPDIR");

	*c = (struct collector){ .url = url };
	snprintf(c->base, sizeof c->base, "%.40s/cm-bench-XXXXXX", tmp != NULL ? tmp : "/tmp");
	if (mkdtemp(c->base) == NULL)
		fail(c->base);
	snprintf(c->run, sizeof c->run, "%s/run", c->base);
	snprintf(c->data, sizeof c->data, "%s/data", c->base);
	snprintf(c->log, sizeof c->log, "%s/log", c->base);
	if (mkdir(c->run, 0700) != 0 || mkdir(c->data, 0700) != 0)
		fail("bench: directories");
}

/* In the child, between fork and exec. */
static void
settings(const struct collector *c)
{
	clearenv();
	setenv("PATH", "/usr/bin:/bin", 1);
	setenv("HOME", c->base, 1);
	setenv("COMFYMON_RUN_DIR", c->run, 1);
	setenv("COMFYMON_DATA_DIR", c->data, 1);
	setenv("COMFYMON_LOG_FILE", c->log, 1);
	if (c->url != NULL)
		setenv("DD_TRACE_AGENT_URL", c->url, 1);
	else
		setenv("COMFYMON_DESTINATIONS", "none", 1);
}

static void
execute(const struct collector *c, const char *what, const char *option)
{
	const char *path = program();

	settings(c);
	execl(path, "comfymon", what, option, (char *)NULL);
	_exit(127);
}

void
collector_spawn(struct collector *c)
{
	spawned = seconds(CLOCK_MONOTONIC);
	c->pid = fork();
	if (c->pid < 0)
		fail("fork");
	if (c->pid == 0)
		execute(c, "agent", NULL);
}

static bool
exactly(int fd, uint8_t *p, size_t n)
{
	for (ssize_t one; n > 0; p += one, n -= (size_t)one)
		if ((one = read(fd, p, n)) <= 0)
			return false;
	return true;
}

/* Say hello as a probe of its own and wait for the answer. */
static bool
greet(const struct collector *c)
{
	static const uint8_t push[SP_HANDSHAKE_BYTES] = { 0, 'S', 'P', 0, 0, SP_PROTO_PUSH, 0, 0 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct wire_hello h = { .pid = 1, .mono_ns = 1, .real_ns = 1, .probe_id = "bench" };
	uint8_t out[SP_HANDSHAKE_BYTES + SP_HEADER_BYTES + 1024],
	    in[SP_HANDSHAKE_BYTES + SP_HEADER_BYTES + STORED_BYTES];
	size_t n;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok;

	snprintf(a.sun_path, sizeof a.sun_path, "%s/" RUN_SOCKET_NAME, c->run);
	memcpy(out, push, sizeof push);
	n = wire_hello_put(out + SP_HANDSHAKE_BYTES + SP_HEADER_BYTES,
	    sizeof out - SP_HANDSHAKE_BYTES - SP_HEADER_BYTES, &h);
	memset(out + SP_HANDSHAKE_BYTES, 0, SP_HEADER_BYTES);
	out[SP_HANDSHAKE_BYTES] = 1;
	out[SP_HANDSHAKE_BYTES + SP_HEADER_BYTES - 1] = (uint8_t)n;
	out[SP_HANDSHAKE_BYTES + SP_HEADER_BYTES - 2] = (uint8_t)(n >> 8);
	n += SP_HANDSHAKE_BYTES + SP_HEADER_BYTES;
	ok = connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
	     send(fd, out, n, MSG_NOSIGNAL) == (ssize_t)n && exactly(fd, in, sizeof in);
	close(fd);
	return ok;
}

double
collector_ready(struct collector *c)
{
	struct timespec nap = { .tv_nsec = 100000 };
	double now;

	while (!greet(c)) {
		if (waitpid(c->pid, NULL, WNOHANG) != 0 ||
		    seconds(CLOCK_MONOTONIC) > spawned + READY_LIMIT_S) {
			fprintf(stderr, "bench: the collector does not start, see %s\n", c->log);
			exit(1);
		}
		nanosleep(&nap, NULL);
	}
	now = seconds(CLOCK_MONOTONIC);
	return now - spawned;
}

void
collector_kill(struct collector *c)
{
	kill(c->pid, SIGKILL);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
}

double
collector_stop(struct collector *c)
{
	double cpu;

	kill(c->pid, SIGTERM);
	/* its clock is read while it still exists: a zombie's is whole */
	waitid(P_PID, (id_t)c->pid, &(siginfo_t){ 0 }, WEXITED | WNOWAIT);
	cpu = collector_cpu(c);
	waitpid(c->pid, NULL, 0);
	c->pid = 0;
	return cpu;
}

void
collector_fini(struct collector *c)
{
	char command[96];

	if (c->pid > 0)
		collector_kill(c);
	snprintf(command, sizeof command, "rm -rf '%s'", c->base);
	if (system(command) != 0)
		fail(command);
}

double
collector_cpu(const struct collector *c)
{
	clockid_t id;

	if (clock_getcpuclockid(c->pid, &id) != 0)
		fail("clock_getcpuclockid");
	return seconds(id);
}

static double
field_mb(const char *path, const char *name)
{
	char line[256];
	double sum = 0;
	FILE *f = fopen(path, "r");

	if (f == NULL)
		fail(path);
	while (fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, name, strlen(name)) == 0)
			sum += strtod(line + strlen(name), NULL) / 1024;
	fclose(f);
	return sum;
}

struct collector_memory
collector_memory(const struct collector *c)
{
	char rollup[64], status[64];

	snprintf(rollup, sizeof rollup, "/proc/%d/smaps_rollup", (int)c->pid);
	snprintf(status, sizeof status, "/proc/%d/status", (int)c->pid);
	return (struct collector_memory){ field_mb(rollup, "Rss:"),
		field_mb(rollup, "Private_Dirty:"), field_mb(status, "VmHWM:") };
}

uint64_t
collector_wakeups(const struct collector *c)
{
	char path[64 + 256], line[256];
	uint64_t sum = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof path, "/proc/%d/task", (int)c->pid);
	d = opendir(path);
	if (d == NULL)
		fail(path);
	while ((e = readdir(d)) != NULL) {
		FILE *f;

		snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)c->pid, e->d_name);
		if (e->d_name[0] == '.' || (f = fopen(path, "r")) == NULL)
			continue;
		while (fgets(line, sizeof line, f) != NULL)
			if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
				sum += strtoull(line + 24, NULL, 10);
		fclose(f);
	}
	closedir(d);
	return sum;
}

uint64_t
collector_counter(const struct collector *c, const char *key)
{
	static char text[65536];
	char name[64];
	size_t n = 0;
	ssize_t one;
	int fds[2];
	pid_t pid;
	char *at;

	if (pipe2(fds, O_CLOEXEC) != 0 || (pid = fork()) < 0)
		fail("bench: status");
	if (pid == 0) {
		dup2(fds[1], 1);
		execute(c, "status", "--json");
	}
	close(fds[1]);
	while (n < sizeof text - 1 && (one = read(fds[0], text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)one;
	text[n] = 0;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	snprintf(name, sizeof name, "\"%s\":", key);
	at = strstr(text, "\"trace\"");
	at = at != NULL ? strstr(at, name) : NULL;
	return at != NULL ? strtoull(at + strlen(name), NULL, 10) : 0;
}
