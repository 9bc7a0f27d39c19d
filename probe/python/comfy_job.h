/*
 * comfy_job.h - what the parts about jobs share (comfy_job.c, comfy_queue.c,
 * comfy_node*.c, comfy_message.c …): the jobs that run, their nodes, and the
 * keys of their tags.
 *
 * GIL held.  Everything is bounded; what does not fit is counted and told
 * without us.  No value of an input is ever told; nothing of the host is kept
 * longer than the job.
 *
 * A job runs from PromptExecutor.execute's call to its return; a node from its
 * start (ProgressRegistry, or its call in versions without one) to its finish,
 * maybe over several calls of execution.execute, maybe overlapping others.
 */
#pragma once

#include "probe/python/comfy_body.h"
#include "probe/python/comfy_ids.h"
#include "probe/python/hook.h"

#define JOBS_MAX  8u   /* running at once */
#define NODES_MAX 512u /* open at once, in all jobs */

enum outcome {
	OUTCOME_NONE,
	OUTCOME_SUCCESS,
	OUTCOME_ERROR,
	OUTCOME_INTERRUPTED,
	OUTCOME_BLOCKED,
	OUTCOME_CACHED,
	OUTCOME_ABANDONED, /* open when its job ended for another reason */
	OUTCOME_COUNT
};

struct workflow {
	uint64_t hash;     /* 0: unknown */
	uint32_t resource; /* string id */
	size_t nodes;
};

struct comfy_node {
	PyObject *id, *parent; /* str, owned; no parent: NULL */
	struct span *span;     /* owned */
	enum outcome outcome;
	bool started;
	uint32_t attempts, calls;
	double steps, step_value, first_steps; /* done in all, of this bar, at the first call */
	uint64_t first_step_ns, last_step_ns;
	struct comfy_node *next; /* open ones of the job, newest first */
};

struct comfy_job {
	PyObject *prompt_id, *prompt, *extra_data; /* owned; prompt_id NULL: free */
	PyObject *executor;                        /* owned, or NULL */
	struct span *span;                         /* owned */
	unsigned long thread;
	char id[COMFY_ID_BYTES];
	size_t id_bytes;
	struct workflow workflow;
	enum outcome outcome;
	bool has_progress, has_execute, has_calls; /* the hooks that are there */
	bool recursive;                            /* a node's call contains those of its inputs */
	bool failed;                               /* an exception was told already */
	uint32_t executed, cached_inside;
	PyObject *cached; /* the list of execution_cached, owned, or NULL */
	uint64_t started_ns, rss_peak, rss_peak_before;
	struct comfy_node *nodes, *visiting;
	PyObject *success, *failure, *pending; /* members of ExecutionResult, owned, or NULL */
};

/* What a job takes over from its place in the queue. */
struct handover {
	bool has_parent;
	struct span_link parent;
	struct span *run;  /* the job's, begun with the wait where no request is above both */
	struct body *body; /* while it waits, or NULL */
	struct span *wait; /* open until the job's is: at no moment is nothing of it open */
	uint64_t put_ns, got_ns;
	double number;
	long long item; /* of the queue, -1: unknown */
};

struct comfy_counters {
	uint64_t queue_full, jobs_full, nodes_full, resources_full;
};

/* Ids of strings in the ring that is open. */
struct comfy_keys {
	uint32_t validate, wait, execute, evict, node; /* operations */
	uint32_t custom, queue, worker;                /* types */
	uint32_t component, comfyui, kind, internal, consumer;
	uint32_t prompt_id, job_id, hash, workflow_status, node_count, nodes_executed, nodes_cached;
	uint32_t queue_number, queue_item, wait_ms, thread_id, died, job_body;
	uint32_t rss_before, rss_after, rss_peak;
	uint32_t node_id, display_id, parent_id, class_type, node_status, cached, attempts, calls;
	uint32_t steps, steps_per_s, output_bytes, output_bytes_gpu;
	uint32_t real_node, real_class, oom, gpu, host_alloc, device_error;
	uint32_t held_outputs, held_outputs_gpu, held_models, held_models_gpu, held_top;
	uint32_t held_partial, unaccounted;
	uint32_t yes, cancelled, prompt_queue, invalid, other;
	uint32_t outcome[OUTCOME_COUNT];
};

/* Names in ComfyUI's dicts and objects. */
struct comfy_names {
	PyObject *class_type, *inputs, *meta, *prompt_id, *node_id, *node, *nodes, *value, *job_id;
	PyObject *exception_type, *exception_message, *traceback, *type, *queue;
	PyObject *get_node, *get_display_node_id, *get_parent_node_id, *input_is_list, *dynprompt;
	/* messages */
	PyObject *start, *cached, *success, *error, *interrupted, *executing, *progress;
};

extern struct comfy_names comfy_names;
extern struct comfy_keys comfy_keys;
extern struct comfy_counters comfy_counters;

/* ---- comfy_part.c: arguments, whatever the version or a neighbour made of a signature ---- */
/*
 * The i-th of the row's parameters by name, else what stands at `position` (of
 * the versions known); borrowed or NULL.  The caller checks its type.
 */
PyObject *comfy_arg(const struct hook_call *c, unsigned i, size_t position);
/* dict[key] of a dict, borrowed; NULL when it is no dict or has none. No exception. */
PyObject *comfy_item(PyObject *dict, PyObject *key);
/* UTF-8 of a str, NULL when it is none. No exception. */
const char *comfy_text(PyObject *o, size_t *n);
bool comfy_same(PyObject *a, PyObject *b); /* two str, equal */

/* ---- comfy_workflow.c ---- */
/* `outputs`: a sequence of ids of output nodes, NULL when the prompt is invalid. */
void workflow_of(PyObject *prompt, PyObject *outputs, struct workflow *out);
/* As ComfyUI tells a link from a value: [node id, output]. */
bool workflow_is_link(PyObject *value);
void workflow_tag(struct span *s, const struct workflow *w);
void workflow_restart(void);

/* ---- comfy_queue.c ---- */
/* Its spans (may be NULL) are the caller's from then on. */
bool queue_hand_over(PyObject *prompt_id, struct handover *out);
size_t queue_waiting(void);

/* ---- comfy_job.c ---- */
/* The job that runs under this id, else (id NULL) on this thread; NULL: none. */
struct comfy_job *job_of(PyObject *prompt_id);
size_t jobs_running(void);
/* A plain span of ours: component, kind, type. NULL with an exception. */
struct span *job_new_span(uint32_t name, uint32_t type, uint32_t kind);
void job_saw_rss(struct comfy_job *j, uint64_t bytes);

/* ---- comfy_node.c ---- */
struct comfy_node *node_find(const struct comfy_job *j, PyObject *id);
struct comfy_node *node_with(const struct comfy_job *j, const struct span *s);
/* A node that was met; NULL when there is no room (counted). `dynprompt` may be NULL. */
struct comfy_node *node_new(struct comfy_job *j, PyObject *id, PyObject *dynprompt);
/* It works, if it did not before: from now on, or since it was met. */
void node_start(struct comfy_job *j, struct comfy_node *n, bool now_is_start);
void node_step(struct comfy_node *n, double value);
/* It is over; `n` is not there any more. */
void node_end(struct comfy_job *j, struct comfy_node *n, enum outcome outcome);
/* Never was. */
void node_forget(struct comfy_job *j, struct comfy_node *n);
/* What is open when the job ends. */
void node_end_all(struct comfy_job *j, enum outcome job_outcome);
size_t nodes_open(void);

/* ---- comfy_fail.c ---- */
/* The node failed with an exception (may be NULL): told on it, its parents and the job. */
void fail_node(struct comfy_job *j, struct comfy_node *n, PyObject *exception, PyObject *tb);
/* It came out of the executor. */
void fail_job(struct comfy_job *j, PyObject *exception, PyObject *tb);
/* A failure that only a message tells of. */
void fail_told(struct comfy_job *j, PyObject *message);
bool fail_is_interrupt(PyObject *exception);

/* ---- comfy_secrets.c ---- */
void secrets_setup(void);
/* A prompt that is worked on; its strings are taken out of errors. Both or one may be NULL. */
void secrets_add(PyObject *prompt, PyObject *extra_data);
void secrets_drop(PyObject *prompt, PyObject *extra_data);

/* ---- comfy_gpu.c ---- */
/* memory.gpu.*, if torch is there and has initialised CUDA already. */
void gpu_tag(struct span *s);
/* Which devices torch counts, when they are up already. */
void gpu_tag_ids(struct span *s);

/* ---- comfy_tensor.c ---- */
/* node.output_bytes, of the tensors in what a node returned. */
void output_bytes_tag(struct span *s, PyObject *output);

/* ---- comfy_held.c ---- */
/* memory.held.*, memory.unaccounted_bytes. `executor` may be NULL, `rss` 0: unknown. */
void held_tag(struct span *s, PyObject *executor, PyObject *prompt, uint64_t rss);

extern const struct hook_kind comfy_kind_validate, comfy_kind_put, comfy_kind_get,
    comfy_kind_unqueue, comfy_kind_done, comfy_kind_job, comfy_kind_message, comfy_kind_send,
    comfy_kind_node, comfy_kind_call, comfy_kind_start, comfy_kind_step, comfy_kind_finish;
