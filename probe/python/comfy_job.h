/*
 * comfy_job.h - a job's life as the adapter knows it, from PromptQueue.put to
 * task_done.  Shared by comfy_job.c (table), comfy_queue.c, comfy_execute.c,
 * comfy_node.c, comfy_secret.c.
 *
 * GIL held everywhere.  Jobs and open nodes live in tables of fixed size; what
 * does not fit is not traced, and counted.  A pointer to a job or node is
 * good while its state says so: calls into Python may let other threads in.
 */
#pragma once

#include "probe/python/hook.h"

#define JOBS_MAX  512 /* queued and running */
#define NODES_MAX 256 /* open at once, of all jobs */

/* Keys and values of tags, by their ids in the ring that is open. */
#define COMFY_WORDS(X)                                \
	X(component, "component")                     \
	X(span_kind, "span.kind")                     \
	X(prompt_id, "prompt.id")                     \
	X(job_id, "job.id")                           \
	X(hash, "workflow.hash")                      \
	X(status, "workflow.status")                  \
	X(node_count, "workflow.node_count")          \
	X(nodes_executed, "workflow.nodes_executed")  \
	X(nodes_cached, "workflow.nodes_cached")      \
	X(queue_number, "queue.number")               \
	X(queue_wait_ms, "queue.wait_ms")             \
	X(rss_before, "memory.rss.before_bytes")      \
	X(rss_after, "memory.rss.after_bytes")        \
	X(rss_peak, "memory.rss.peak_bytes")          \
	X(node_id, "node.id")                         \
	X(node_display, "node.display_id")            \
	X(node_parent, "node.parent_id")              \
	X(node_class, "node.class_type")              \
	X(node_status, "node.status")                 \
	X(node_cached, "node.cached")                 \
	X(node_attempts, "node.attempts")             \
	X(node_calls, "node.calls")                   \
	X(node_steps, "node.steps")                   \
	X(node_steps_per_s, "node.steps_per_s")       \
	X(node_output_bytes, "node.output_bytes")     \
	X(real_node, "error.real_node")               \
	X(real_class, "error.real_class")             \
	X(error_type, "error.type")                   \
	X(error_message, "error.message")             \
	X(oom, "oom")                                 \
	X(span_validate, "comfyui.workflow.validate") \
	X(span_wait, "comfyui.queue.wait")            \
	X(span_execute, "comfyui.workflow.execute")   \
	X(span_evict, "comfyui.cache.evict")          \
	X(span_node, "comfyui.node.execute")          \
	X(type_custom, "custom")                      \
	X(type_queue, "queue")                        \
	X(type_worker, "worker")                      \
	X(comfyui, "comfyui")                         \
	X(prompt_queue, "prompt_queue")               \
	X(internal, "internal")                       \
	X(consumer, "consumer")                       \
	X(yes, "true")                                \
	X(success, "success")                         \
	X(error, "error")                             \
	X(interrupted, "interrupted")                 \
	X(cancelled, "cancelled")                     \
	X(cached, "cached")                           \
	X(gpu, "gpu")                                 \
	X(host_alloc, "host_alloc")

struct comfy_words {
#define X(name, text) uint32_t name;
	COMFY_WORDS(X)
#undef X
};
extern struct comfy_words word;

/* What a graph is called: `<workflow>` of TELEMETRY.md, and its numbers. */
struct workflow {
	PyObject *prompt; /* strong: its address is the key of the newest one's cache */
	uint32_t resource;
	char hash[9];
	uint32_t node_count;
};

enum job_state { JOB_FREE, JOB_QUEUED, JOB_RUNNING, JOB_ENDED };
enum outcome { OUTCOME_NONE, OUTCOME_SUCCESS, OUTCOME_ERROR, OUTCOME_INTERRUPTED };

struct job {
	enum job_state state;
	PyObject *item;  /* strong; the queue's tuple: it is the job while it waits */
	PyObject *queue; /* borrowed, only compared */
	PyObject *prompt_id, *prompt, *extra_data, *sensitive; /* strong, may be NULL */
	long long item_id;                                     /* of get, -1 before */
	struct span *wait, *span;                              /* owned */
	struct span_link parent;
	bool has_parent;
	uint64_t put_ns, start_ns; /* start_ns: of the message execution_start */
	enum outcome outcome;
	PyObject *failure; /* what a node's execution gave back, until the end */
	bool told_error;   /* failure and its message are on the span */
	uint32_t nodes_executed, nodes_cached;
	uint64_t rss_peak;
	struct node *nodes; /* open ones */
};

struct node {
	struct node *next;
	struct job *job;   /* NULL: in no use */
	PyObject *id;      /* strong, str */
	struct span *span; /* owned; its ids are fixed from the first visit on */
	bool started;      /* by start_progress, or by its first visit where there is none */
	bool ended;        /* only a visit that is still running keeps it */
	uint32_t visits;   /* running now */
	uint32_t attempts, calls;
	uint64_t finish_ns; /* finish_progress came, its visit still runs */
	uint64_t first_step_ns, last_step_ns;
	double first_step, last_step;
	double output_bytes; /* < 0: not known */
};

/* ---- comfy_job.c: the table ---- */
/* A free entry with these (strong references are taken), or NULL: full, counted. */
struct job *job_new(PyObject *prompt_id);
void job_free(struct job *job); /* ends what is still open */
struct job *job_of_item(PyObject *item);
/* The one that runs under this prompt id; failing that, and with `any`, one that waits. */
struct job *job_of_prompt(PyObject *prompt_id, bool any);
struct job *job_of_item_id(PyObject *queue, long long item_id);
/* Step through the table: NULL to begin; jobs that are in use. */
struct job *job_next(struct job *job);
/* A span of the job: names, component, kind, prompt id; begun below `parent` (NULL: below the
 * current one). NULL: no memory. */
struct span *job_span(const struct job *job, uint32_t name, uint32_t type, uint32_t kind,
    const struct span_link *parent);
/* Outcome, numbers and flags on the job's span; once. */
void job_conclude(struct job *job);
void job_tag_prompt(struct span *s, PyObject *prompt_id);
/* Key is a word, value a str: as it is when it is short enough, nothing else. */
void job_tag_str(struct span *s, uint32_t key, PyObject *value);

/* ---- comfy_workflow.c ---- */
/* Describe a prompt; `outputs` is an iterable of node ids or NULL. Remembered for the newest. */
const struct workflow *workflow_of(PyObject *prompt, PyObject *outputs);
void workflow_tag(struct span *s, const struct workflow *w);
void workflow_restart(void);
/* The graph that was described last (borrowed), NULL for none: a request may still be about it. */
PyObject *workflow_newest(void);

/* ---- comfy_queue.c, comfy_execute.c, comfy_node.c: kinds ---- */
extern const struct hook_kind job_kind_put, job_kind_get, job_kind_done, job_kind_cancel;
extern const struct hook_kind job_kind_validate, job_kind_execute, job_kind_message;
extern const struct hook_kind job_kind_node, job_kind_recursive, job_kind_outputs;
extern const struct hook_kind job_kind_start, job_kind_update, job_kind_finish;
extern const struct hook_kind job_kind_send;

/* Begin to run a job that get() handed out, or that was never queued. */
void job_begin(struct job *job, uint64_t now_ns);
/* End every node of the job that is still open. */
void nodes_end(struct job *job, uint32_t status, PyObject *failure);
/* The node of this id, when it is open. */
struct node *node_of(const struct job *job, PyObject *id);
/* Nodes that found no room: they have no span. */
extern uint64_t nodes_refused;
/* The host is complete: which of a node's hooks are there? Where none is, its messages are. */
void nodes_look_again(void);

/* ---- comfy_secret.c: what a prompt holds is taken out of errors ---- */
void secret_setup(void);
/* Jobs came or went: what was gathered is stale. */
void secret_changed(void);

/* ---- comfy_gpu.c ---- */
/* memory.gpu.<i>.*, only where torch has initialised CUDA. */
void gpu_tag(struct span *s);
