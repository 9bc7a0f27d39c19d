/*
 * run.c - the supervisor's loop: one poll over signals, output and typing, and
 * what is due by the clock.  See run.h.
 */
#include "agent/supervisor/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/supervisor/run_internal.h"

enum { POLL_SIGNAL, POLL_TYPING, POLL_OUTPUT, POLL_COUNT = POLL_OUTPUT + OUTPUT_STREAMS };

/* The next one that has ended.  As long as the command's corpse is there its group is nobody
 * else's: who is left in it must not hold port and GPU. */
static pid_t
ended(const struct run *r, int *status)
{
	siginfo_t who = { 0 };

	if (waitid(P_ALL, 0, &who, WEXITED | WNOHANG | WNOWAIT) != 0 || who.si_pid == 0)
		return 0;
	if (who.si_pid == r->child.pid)
		kill(-who.si_pid, SIGKILL);
	return waitpid(who.si_pid, status, WNOHANG);
}

/* Everybody who ended: the command, ours, and orphans that came to us. */
static void
reap(struct run *r)
{
	int status;
	pid_t pid;

	while ((pid = ended(r, &status)) > 0) {
		if (pid == r->child.pid)
			life_ended(r, status);
		else if (pid == r->agent)
			beside_ended(r, clock_mono_ns());
		else if (pid == r->drainer)
			life_drained(r);
		else if (pid == r->relief)
			relief_answered(r, status);
	}
}

/* As a shell's job: the command stands still with us, and goes on with us. */
static void
stand_still(struct run *r)
{
	sigset_t set;

	if (r->child.pid <= 0)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	kill(-r->child.pid, SIGSTOP);
	/* Let the kernel do it: it stops nobody whom no shell could let go on. */
	(void)raise(SIGTSTP);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	kill(-r->child.pid, SIGCONT);
	life_ignore_order(r); /* of course it was silent */
}

static void
take_signals(struct run *r, int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
		switch ((int)info.ssi_signo) {
		case SIGCHLD:
			reap(r);
			break;
		case SIGWINCH:
			child_resize(&r->child);
			break;
		case SIGTSTP:
			stand_still(r);
			break;
		case SIGUSR1:
		case SIGUSR2: /* not ours */
			if (r->child.pid > 0)
				kill(r->child.pid, (int)info.ssi_signo);
			break;
		default:
			life_stop(r, (int)info.ssi_signo);
			break;
		}
	}
}

static uint64_t
earlier(uint64_t a, uint64_t b)
{
	return b != 0 && b < a ? b : a;
}

/* What the clock asks for; when it will ask again. */
static uint64_t
due(struct run *r, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	if (r->restart_ns != 0 && now >= r->restart_ns)
		life_start(r);
	if (r->agent_ns != 0 && now >= r->agent_ns)
		beside_start(r, now);
	if (r->kill_ns != 0 && now >= r->kill_ns)
		life_kill(r, ASKED_NOTHING);
	if (r->child.pid > 0 && now >= r->sample_ns)
		watch_sample(r, now);
	next = earlier(next, r->restart_ns);
	next = earlier(next, r->agent_ns);
	next = earlier(next, r->kill_ns);
	return r->child.pid > 0 ? earlier(next, r->sample_ns > now ? r->sample_ns : now + 1) : next;
}

static int
timeout_ms(uint64_t now, uint64_t next)
{
	uint64_t ms = next <= now ? 0 : (next - now) / NS_PER_MS + 1;

	return next == UINT64_MAX ? -1 : ms > 60000 ? 60000 : (int)ms;
}

static void
loop(struct run *r, int signals)
{
	while (!r->done) {
		struct pollfd fds[POLL_COUNT];
		uint64_t now = clock_mono_ns(), next = due(r, now);

		fds[POLL_SIGNAL] = (struct pollfd){ .fd = signals, .events = POLLIN };
		fds[POLL_TYPING] =
		    (struct pollfd){ .fd = r->typing && child_may_type() ? STDIN_FILENO : -1,
			    .events = POLLIN };
		output_poll(&r->out, fds + POLL_OUTPUT);
		if (r->done || poll(fds, POLL_COUNT, timeout_ms(now, next)) < 0)
			continue; /* EINTR alone is possible */
		if (fds[POLL_SIGNAL].revents != 0)
			take_signals(r, signals);
		if (r->typing && fds[POLL_TYPING].revents != 0)
			r->typing = child_type(&r->child);
		if (r->child.pid > 0)
			output_move(&r->out, fds + POLL_OUTPUT);
	}
}

/* By who started us: nohup, a shell that puts us in the background of a script. */
static bool
is_ignored(int s)
{
	struct sigaction now;

	return sigaction(s, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

static int
open_signals(void)
{
	static const int ours[] = { SIGCHLD, SIGWINCH, SIGTSTP, SIGINT, SIGTERM, SIGHUP, SIGQUIT,
		SIGUSR1, SIGUSR2 };
	sigset_t set;

	signal(SIGCHLD, SIG_DFL); /* ignored, the kernel would keep every end to itself */
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (ours[i] == SIGTERM || !is_ignored(ours[i]))
			sigaddset(&set, ours[i]);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTTIN, SIG_IGN); /* in the background a terminal says EIO, and that is all */
	signal(SIGTTOU, SIG_IGN);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* What we open must not become a standard stream of ours, or of the command. */
static void
hold_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
	if (fd > STDERR_FILENO)
		close(fd);
}

static bool
prepare(struct run *r)
{
	const struct run_options *o = r->o;
	char name[64], mark[SESSION_BYTES + 16];
	enum err e = dir_prepare(o->run_dir);

	if (e == E_OK)
		e = dir_prepare(o->data_dir);
	snprintf(name, sizeof name, "session-%d", (int)getpid());
	if (e == E_OK)
		e = path_join(r->session, sizeof r->session, o->run_dir, name);
	snprintf(mark, sizeof mark, "%s.reboot", r->session);
	if (e == E_OK) /* in a container the one before had our pid */
		unlink(mark);
	if (e != E_OK)
		log_error("directory_refused run_dir=%s data_dir=%s error=\"%s\"", o->run_dir,
		    o->data_dir, err_text(e));
	return e == E_OK;
}

int
run_command(const struct run_options *o)
{
	struct run *r = calloc(1, sizeof *r);
	int signals, code = RUN_CANNOT;

	hold_streams();
	log_never_wait();
	signals = open_signals();
	if (r == NULL || (r->box = calloc(1, sizeof *r->box)) == NULL || signals < 0) {
		log_error("run_cannot_start error=\"%s\"", err_text(E_NOMEM));
		if (r != NULL)
			free(r->box);
		free(r);
		return code;
	}
	r->o = o;
	r->policy = (struct policy){ .when = o->restart, .limit = o->crash_limit };
	r->child.master = r->kills.log = -1;
	r->soft.never_restart = o->restart == RESTART_NEVER;
	listen_of(o->command, &r->listen);
	output_init(&r->out);
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (prepare(r)) {
		watch_open(r);
		if (r->method[0] == 'w')
			log_warn("memory_limit_by_watching why=\"%s\"", r->why);
		said_open(r);
		life_start(r); /* first: nothing of it waits for the agent */
		beside_start(r, clock_mono_ns());
		loop(r, signals);
		life_say_again(r);
		beside_stop(r);
		cgroup_remove(&r->group);
		said_close(r);
		code = r->code;
	}
	kills_close(&r->kills);
	close(signals);
	free(r->box);
	free(r);
	return code;
}
