/*
 * collector.h - a `comfymon agent` as the child of a benchmark: directories of
 * its own, and what the kernel says about it.  Everything exits on failure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct collector {
	pid_t pid;
	char base[64], run[80], data[80], log[80];
	const char *url; /* NULL: destination none */
};

/* Makes the directories; the program is COMFYMON_BIN, else `comfymon` beside this one. */
void collector_init(struct collector *c, const char *url);
/* Fork and exec; does not wait. */
void collector_spawn(struct collector *c);
/* Seconds from the fork until a hello was answered with `stored`: the database is open. */
double collector_ready(struct collector *c);
void collector_kill(struct collector *c);   /* SIGKILL and wait */
double collector_stop(struct collector *c); /* SIGTERM and wait; seconds of CPU in its life */
void collector_fini(struct collector *c);   /* also removes the directories */

double collector_cpu(const struct collector *c); /* seconds of all its threads so far */
struct collector_memory {
	/* private: dirty pages; whether clean ones are shared depends on who else runs */
	double rss_mb, private_mb, peak_mb;
};
struct collector_memory collector_memory(const struct collector *c);
/* How often any of its threads was woken so far. */
uint64_t collector_wakeups(const struct collector *c);
/* A number of `status --json`: of signals.trace, by its key. */
uint64_t collector_counter(const struct collector *c, const char *key);
