/*
 * thread.h - named threads that block every signal, and the one condition that
 * an owner thread sleeps on.  A sleeper without a deadline uses no timer.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/err.h"

struct thread {
	pthread_t id;
	bool started;
};

/* Name at most 15 characters. Signals are blocked in it: they belong to main. */
MUST_CHECK enum err thread_start(
    struct thread *t, const char *name, void (*run)(void *), void *arg);
/* Can `more` threads be had at this moment? For libraries that do not survive it when not. */
MUST_CHECK enum err threads_available(unsigned more);
/* Wait for its end. Harmless when it was never started or is joined. */
void thread_join(struct thread *t);

/* A flag with a sleeper: wakes are kept until somebody waits, many wakes are one. */
struct waker {
	pthread_mutex_t lock;
	pthread_cond_t cond; /* CLOCK_MONOTONIC */
	bool awake, stop;
};

#define WAKER_FOREVER UINT64_MAX

void waker_init(struct waker *w);
void waker_fini(struct waker *w);
void waker_wake(struct waker *w);
/* Wake and stay awake: waker_stopped is true from now on. */
void waker_stop(struct waker *w);
bool waker_stopped(struct waker *w);
/* Sleep until woken, stopped, or the monotonic time has come. True when woken or stopped. */
bool waker_wait(struct waker *w, uint64_t until_mono_ns);
