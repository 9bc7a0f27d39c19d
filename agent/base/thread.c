/*
 * thread.c - pthreads with a name, a signal mask and a monotonic condition.
 */
#include "agent/base/thread.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "agent/base/clock.h"

struct start {
	void (*run)(void *);
	void *arg;
};

static void *
enter(void *p)
{
	struct start s = *(struct start *)p;

	free(p);
	s.run(s.arg);
	return NULL;
}

enum err
thread_start(struct thread *t, const char *name, void (*run)(void *), void *arg)
{
	struct start *s = malloc(sizeof *s);
	sigset_t all, old;
	int rv;

	if (s == NULL)
		return E_NOMEM;
	s->run = run;
	s->arg = arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rv = pthread_create(&t->id, NULL, enter, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rv != 0) {
		free(s);
		return err_from_errno(rv);
	}
	pthread_setname_np(t->id, name);
	t->started = true;
	return E_OK;
}

static void *
wait_for_gate(void *gate)
{
	pthread_mutex_lock(gate);
	pthread_mutex_unlock(gate);
	return NULL;
}

enum err
threads_available(unsigned more)
{
	pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
	pthread_t *ids = calloc(more, sizeof *ids);
	sigset_t all, old;
	unsigned n = 0;
	int rv = 0;

	if (ids == NULL)
		return E_NOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pthread_mutex_lock(&gate); /* all of them at once */
	while (n < more && (rv = pthread_create(&ids[n], NULL, wait_for_gate, &gate)) == 0)
		n++;
	pthread_mutex_unlock(&gate);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	while (n > 0)
		pthread_join(ids[--n], NULL);
	free(ids);
	return err_from_errno(rv);
}

void
thread_join(struct thread *t)
{
	if (!t->started)
		return;
	pthread_join(t->id, NULL);
	t->started = false;
}

void
waker_init(struct waker *w)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->cond, &attr);
	pthread_condattr_destroy(&attr);
	w->awake = w->stop = false;
}

void
waker_fini(struct waker *w)
{
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->lock);
}

void
waker_wake(struct waker *w)
{
	pthread_mutex_lock(&w->lock);
	if (!w->awake) {
		w->awake = true;
		pthread_cond_signal(&w->cond);
	}
	pthread_mutex_unlock(&w->lock);
}

void
waker_stop(struct waker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = w->awake = true;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

bool
waker_stopped(struct waker *w)
{
	bool stop;

	pthread_mutex_lock(&w->lock);
	stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return stop;
}

bool
waker_wait(struct waker *w, uint64_t until_mono_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(until_mono_ns / NS_PER_S),
		.tv_nsec = (long)(until_mono_ns % NS_PER_S) };
	bool woken;
	int rv = 0;

	pthread_mutex_lock(&w->lock);
	while (!w->awake && rv == 0)
		rv = until_mono_ns == WAKER_FOREVER
			 ? pthread_cond_wait(&w->cond, &w->lock)
			 : pthread_cond_timedwait(&w->cond, &w->lock, &ts);
	woken = w->awake;
	w->awake = w->stop; /* a stop is never forgotten */
	pthread_mutex_unlock(&w->lock);
	return woken;
}
