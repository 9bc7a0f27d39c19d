/* hook_impl.h - what the files of the hook engine share; nobody else includes it. */
#pragma once

#include "probe/python/hook.h"

enum hook_state {
	HOOK_ATTACHED = 0, /* the numbers are those of the HOOK event */
	HOOK_MISSING = 1,
	HOOK_UNKNOWN = 2,
	HOOK_DETACHED = 3,
	HOOK_WAITING = 4, /* its module has not been imported */
};

/* Where a parameter is found in a call. */
struct hook_bind {
	PyObject *name;      /* interned str, NULL: not used */
	PyObject *otherwise; /* its default, or NULL */
	Py_ssize_t index;    /* among the positional ones, -1: by keyword only */
};

enum expr_root { EXPR_NONE, EXPR_TEXT, EXPR_NUMBER, EXPR_ARG, EXPR_SELF, EXPR_RESULT };
enum expr_function {
	EXPR_VALUE,
	EXPR_TYPE,
	EXPR_LEN,
	EXPR_BASENAME,
	EXPR_INT,
	EXPR_STR,
	EXPR_SHAPE
};
#define EXPR_PATH_MAX 4

struct hook_expr {
	enum expr_root root;
	enum expr_function function;
	struct hook_bind bind;
	PyObject *path[EXPR_PATH_MAX]; /* attribute names, up to the first NULL */
	double number;
	char text[64];
	uint32_t text_id;
};

struct hook {
	const struct hook_def *def; /* NULL for a decorated function */
	const struct hook_kind *kind;
	enum hook_state state;
	bool off;
	bool busy; /* a thread attaches or detaches it */
	uint32_t failures;
	uint64_t calls;
	/* where it is attached; strong references */
	PyObject *owner, *attr, *original, *placed, *wrapper;
	struct hook_bind params[HOOK_PARAMS_MAX];
	/* of the kind "span"; the ids are those of ring number `generation` */
	uint64_t generation;
	uint32_t name, service, type, fixed_resource;
	uint32_t keys[HOOK_TAGS_MAX];
	PyObject *strings[SPAN_STRINGS]; /* of a decorated function */
	struct hook_expr resource;
	struct hook_expr tags[HOOK_TAGS_MAX];
};

/* ---- wrapper.c, awaitable.c ---- */
extern PyTypeObject wrapper_type, wrapper_unbound_type, awaitable_type;
/* A wrapper around `function` (new reference); `owned`: the hook dies with it. */
PyObject *wrapper_new(PyObject *function, struct hook *h, bool owned);
void wrapper_set_hook(PyObject *wrapper, struct hook *h);
/* Watches `inner` to its end; keeps the wrapper, whose hook it uses. Takes over c->span and
 * c->state; NULL leaves them with the caller. */
PyObject *awaitable_new(PyObject *inner, const struct hook_call *c, PyObject *wrapper);

/* ---- hook_run.c: the only places where callbacks run ---- */
bool hook_before(struct hook_call *c);
void hook_returned(struct hook_call *c, PyObject *result);
/* The exception is in the thread's state, and stays there. */
void hook_raised(struct hook_call *c);

/* ---- hook_bind.c ---- */
/* The names of the positional parameters, a tuple, or NULL (unknown); no exception. */
PyObject *hook_parameters(PyObject *function);
/* Find b->name in the parameters (may be NULL) and its default. */
void hook_bind_resolve(struct hook_bind *b, PyObject *function, PyObject *parameters);
PyObject *hook_bind_get(const struct hook_bind *b, const struct hook_call *c);
void hook_bind_clear(struct hook_bind *b);

/* ---- hook_expr.c ---- */
/* 0, or -1 when `source` is no expression (no exception). NULL compiles to EXPR_NONE. */
int hook_expr_compile(struct hook_expr *e, const char *source);
void hook_expr_resolve(struct hook_expr *e, PyObject *function, PyObject *parameters);
void hook_expr_clear(struct hook_expr *e);
/* Put the value under `key`; nothing when it is missing. May leave an exception. */
void hook_expr_tag(
    const struct hook_expr *e, const struct hook_call *c, PyObject *result, uint32_t key);
/* The value as the id of a string, 0 when missing. May leave an exception. */
uint32_t hook_expr_id(const struct hook_expr *e, const struct hook_call *c, PyObject *result);

/* ---- hook_span.c ---- */
extern const struct hook_kind hook_kind_span;
/* Compile the row's expressions; -1 when one is malformed. */
int hook_span_compile(struct hook *h);
void hook_span_resolve(struct hook *h, PyObject *function, PyObject *parameters);
/* Rings opened so far: ids of strings belong to one. */
extern uint64_t hook_generation;

/* ---- hook.c ---- */
void hook_free_decorated(struct hook *h);
