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
