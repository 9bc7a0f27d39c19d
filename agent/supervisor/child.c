/*
 * child.c - fork, set up, exec.  Between fork and exec only what is
 * async-signal-safe; an error comes back through a pipe that exec closes.
 */
#include "agent/supervisor/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

/* The ends of the three standard streams: the child's, and what we read. */
struct plumbing {
	int theirs[3]; /* -1: inherited */
	int ours[3];
	int master, slave;
};

static void
plumbing_close(struct plumbing *p, bool ours)
{
	for (int i = 0; i < 3; i++) {
		if (p->theirs[i] >= 0 && p->theirs[i] != p->slave)
			close(p->theirs[i]);
		if (ours && p->ours[i] >= 0 && p->ours[i] != p->master)
			close(p->ours[i]);
	}
	if (p->slave >= 0)
		close(p->slave);
	if (ours && p->master >= 0)
		close(p->master);
}

static enum err
open_pty(struct plumbing *p, int like)
{
	struct termios t;
	struct winsize w;
	char name[64];

	/* Who does not read what is typed must not hold us up. */
	p->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (p->master < 0 || grantpt(p->master) != 0 || unlockpt(p->master) != 0 ||
	    ptsname_r(p->master, name, sizeof name) != 0)
		return err_from_errno(errno);
	p->slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->slave < 0)
		return err_from_errno(errno);
	if (tcgetattr(like, &t) == 0) {
		/* The outer terminal echoes and makes "\r\n"; twice would be once too often. */
		t.c_lflag &= (tcflag_t)~ECHO;
		t.c_oflag &= (tcflag_t)~OPOST;
		(void)tcsetattr(p->slave, TCSANOW, &t);
	}
	if (ioctl(like, TIOCGWINSZ, &w) == 0)
		(void)ioctl(p->master, TIOCSWINSZ, &w);
	return E_OK;
}

static enum err
plumb(struct plumbing *p, bool capture)
{
	enum err e = E_OK;

	*p = (struct plumbing){ { -1, -1, -1 }, { -1, -1, -1 }, -1, -1 };
	for (int i = 0; capture && i < 3 && e == E_OK; i++) {
		int ends[2];

		if (isatty(i)) {
			if (p->master < 0)
				e = open_pty(p, i);
			p->theirs[i] = p->slave;
			p->ours[i] = p->master;
		} else if (i > 0) {
			if (pipe2(ends, O_CLOEXEC) != 0) {
				e = err_from_errno(errno);
				break;
			}
			p->ours[i] = ends[0];
			p->theirs[i] = ends[1];
		}
	}
	if (e != E_OK)
		plumbing_close(p, true);
	return e;
}

/* The environment with ours over it; one block, never freed by the child. */
static char **
merge(char *const *add)
{
	size_t n = 0, more = 0, out = 0;

	while (environ[n] != NULL)
		n++;
	while (add[more] != NULL)
		more++;

	char **all = calloc(n + more + 1, sizeof *all);

	if (all == NULL)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		bool replaced = false;

		for (size_t k = 0; k < more && !replaced; k++) {
			size_t key = (size_t)(strchrnul(add[k], '=') - add[k]) + 1;

			replaced = strncmp(environ[i], add[k], key) == 0;
		}
		if (!replaced)
			all[out++] = environ[i];
	}
	for (size_t k = 0; k < more; k++)
		all[out++] = add[k];
	return all;
}

static void
fail(int fd)
{
	int error = errno;

	while (write(fd, &error, sizeof error) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* In the child. Does not return. */
static void
become(
    const struct child_options *o, const struct plumbing *p, char **env, pid_t parent, int report)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	if (o->dies_with_us && (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent))
		_exit(127);
	/* A terminal of its own makes it a session of its own; else a group is enough. */
	if (p->slave >= 0 ? setsid() < 0 : setpgid(0, 0) != 0)
		fail(report);
	if (p->slave >= 0)
		(void)ioctl(p->slave, TIOCSCTTY, 0);
	if (!cgroup_join(o->group))
		fail(report);
	for (int i = 0; i < 3; i++)
		if (p->theirs[i] >= 0 && dup2(p->theirs[i], i) < 0)
			fail(report);
	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			(void)sigaction(s, &dfl, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	execvpe(o->command[0], o->command, env);
	fail(report);
}

static void
hand_over(struct plumbing *p, struct output *out)
{
	for (int i = 1; i < 3; i++) {
		if (p->ours[i] < 0 || (i == 2 && p->ours[2] == p->ours[1] && p->ours[1] >= 0))
			continue;
		/* The pty is ours for typing and sizes: its stream has a descriptor of its own. */
		output_add(out,
		    p->ours[i] == p->master ? fcntl(p->master, F_DUPFD_CLOEXEC, 3) : p->ours[i], i);
	}
}

enum err
child_start(const struct child_options *o, struct output *out, struct child *child)
{
	struct plumbing p;
	int report[2], error = 0;
	pid_t parent = getpid(), pid;
	char **env;
	enum err e = plumb(&p, o->dies_with_us);

	if (e != E_OK)
		return e;
	env = merge(o->environment);
	e = env == NULL ? E_NOMEM : pipe2(report, O_CLOEXEC) != 0 ? err_from_errno(errno) : E_OK;
	if (e != E_OK) {
		plumbing_close(&p, true);
		free(env);
		return e;
	}
	pid = fork();
	if (pid == 0)
		become(o, &p, env, parent, report[1]);
	if (pid < 0)
		error = errno;
	close(report[1]);
	free(env);
	while (pid > 0 && read(report[0], &error, sizeof error) < 0 && errno == EINTR)
		;
	close(report[0]);
	plumbing_close(&p, error != 0);
	if (error != 0)
		return err_from_errno(error); /* the caller's SIGCHLD finds the corpse */
	hand_over(&p, out);
	*child = (struct child){ .pid = pid, .master = p.master };
	return E_OK;
}

void
child_resize(const struct child *c)
{
	struct winsize w;

	for (int i = 0; c->master >= 0 && i < 3; i++)
		if (ioctl(i, TIOCGWINSZ, &w) == 0) {
			(void)ioctl(c->master, TIOCSWINSZ, &w);
			return;
		}
}

bool
child_may_type(void)
{
	pid_t foreground = tcgetpgrp(STDIN_FILENO);

	return foreground <= 0 || foreground == getpgrp(); /* of another's terminal nobody is */
}

bool
child_type(const struct child *c)
{
	struct pollfd terminal = { .fd = STDIN_FILENO, .events = POLLIN };
	char line[4096];
	ssize_t n = read(STDIN_FILENO, line, sizeof line);
	struct termios t;

	if (n <= 0 && poll(&terminal, 1, 0) == 1 && (terminal.revents & (POLLHUP | POLLERR)) != 0)
		return false;
	if (n == 0 && tcgetattr(c->master, &t) == 0) /* Ctrl-D */
		line[n++] = (char)t.c_cc[VEOF];
	return n <= 0 || write(c->master, line, (size_t)n) >= 0 || errno == EAGAIN ||
	       errno == EINTR;
}
