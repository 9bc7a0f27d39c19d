/*
 * hook.h - hooks are data: tables of (module, attribute, kind, names), executed
 * by one wrapper type.
 *
 * Who uses it: the engine (hook_*.c, wrapper.c, awaitable.c), and adapters that
 * bring callbacks of their own (comfy_*.c).  GIL held everywhere.
 *
 * What always holds: arguments pass through untouched, as the caller gave them;
 * results and exceptions are the wrapped function's own; an exception that a
 * callback leaves behind is dropped and counted, and after HOOK_FAILURES_MAX of
 * them the hook turns itself off.  A wrapper that was detached, or whose hook
 * is off, only passes through.
 */
#pragma once

#include "probe/python/py.h"
#include "probe/python/span.h"

#define HOOK_PARAMS_MAX   8
#define HOOK_TAGS_MAX     12
#define HOOK_FAILURES_MAX 100

struct hook;

/* One call through a wrapper. Lives on the C stack, or in the awaitable of a coroutine. */
struct hook_call {
	struct hook *hook;
	PyObject *const *args; /* borrowed; valid in on_call only, NULL afterwards */
	size_t nargs;          /* positional ones, with self for methods */
	PyObject *kwnames;     /* tuple of str, or NULL */
	struct span *span;     /* owned; the engine makes it current and ends it, see below */
	void *state;           /* the kind's own; on_return or on_raise must let it go */
};

/*
 * What a hook does.  Each callback may be NULL.  Return 0, or -1 when it
 * failed; a Python exception left behind counts as a failure too.
 *
 * on_call may set c->span to a span that has begun.  The engine makes it
 * current while the wrapped function runs (in a coroutine: from its first step
 * on), and after on_return or on_raise takes it back and ends it, if nobody
 * has.  Exactly one of on_return and on_raise follows an on_call that returned
 * 0; for a coroutine when it has finished.  A coroutine that was never awaited,
 * or was closed before its end, gives on_return with result NULL.
 */
struct hook_kind {
	const char *name;
	int (*on_call)(struct hook_call *c);
	int (*on_return)(struct hook_call *c, PyObject *result);                 /* borrowed */
	int (*on_raise)(struct hook_call *c, PyObject *exception, PyObject *tb); /* borrowed */
};

/*
 * One row of a table.  `attr` is a dotted path below the module; the last name
 * is replaced, on the class where the path leads to one (functions, methods,
 * static and class methods).
 *
 * Expressions (resource, tags), evaluated in C, nothing of the host is called
 * but attribute access:
 *
 *	'text'   12   1.5          a constant
 *	name  name.attr.attr       an argument by its parameter's name
 *	self.attr                  the first argument of a method
 *	result  result.attr        what the call returned (evaluated at its end)
 *	type(x) len(x) basename(x) int(x) str(x) shape(x)
 *
 * Texts, numbers and bools make a tag; anything else, and whatever is missing,
 * makes none.
 */
struct hook_tag {
	const char *key, *expr;
};

#define HOOK_LONG      0x1u /* the span may outlive a batch: give it a slot */
#define HOOK_MEASURED  0x2u
#define HOOK_OPTIONAL  0x4u /* absent in some versions: a miss is no news */
#define HOOK_OUTERMOST 0x8u /* no span of its own inside one of the same name */

struct hook_def {
	const char *module, *attr;
	const char *kind; /* "span", or the name of a registered hook_kind */
	const char *name; /* operation name of the span */
	const char *resource, *service, *type;
	const char *params[HOOK_PARAMS_MAX]; /* for native kinds: what hook_arg(c, i) means */
	struct hook_tag tags[HOOK_TAGS_MAX];
	unsigned flags;
};

/*
 * A table in config/hooks/NAME.def is rows of
 *
 *	HOOK("module", "attribute", kind, .name = "…", .resource = "…", …)
 *
 * and is made an array by including it between these.
 */
#define HOOK(module_, attr_, kind_, ...) \
	{ .module = (module_), .attr = (attr_), .kind = #kind_, __VA_ARGS__ },

/* A kind with C callbacks; before the tables that name it. Kept by reference. */
void hook_register_kind(const struct hook_kind *kind);
/* A table of the program; attached by hook_attach. Kept by reference. 0, or -1 (too many). */
int hook_register_table(const struct hook_def *defs, size_t count);

/*
 * Attach every row whose module is there and that is not attached yet.
 * Returns the number of rows attached now.  Call again when modules appeared.
 */
size_t hook_attach(void);
/* Put the originals back where the attribute is still ours; elsewhere pass through. */
void hook_detach(void);
/* The row's state, for adapters that must know what they got. */
bool hook_is_attached(const char *module, const char *attr);

/*
 * The argument of the i-th name in `params` (borrowed), or NULL when the call
 * did not give it or the function has no such parameter.  In on_call only.
 */
PyObject *hook_arg(const struct hook_call *c, unsigned i);
/* As above, but the parameter's default stands in where there is one. */
PyObject *hook_arg_or_default(const struct hook_call *c, unsigned i);
/* The first positional argument (self of a method), or NULL. In on_call only. */
static inline PyObject *
hook_self(const struct hook_call *c)
{
	return c->args != NULL && c->nargs > 0 ? c->args[0] : NULL;
}
/*
 * What the kind "span" does, for kinds that add to it: the row's span with its
 * tags (c->span stays NULL where the row makes none), the tags of the result,
 * the error.
 */
int hook_span_call(struct hook_call *c);
int hook_span_return(struct hook_call *c, PyObject *result);
int hook_span_raise(struct hook_call *c, PyObject *exception, PyObject *tb);

/* The row that a call belongs to. */
const struct hook_def *hook_def_of(const struct hook_call *c);

/* A wrapper of the kind "span" around any callable, for trace() as a decorator. */
PyObject *hook_decorate(PyObject *function, PyObject *const strings[SPAN_STRINGS]);

/* A list of dicts, one for each row: name, kind, state, calls, failures. */
PyObject *hook_list(void);
/* Rows given by Python: a list of dicts with the fields of hook_def. Returns -1 with an exception.
 */
int hook_add_rows(PyObject *rows);
/*
 * What an adapter brings, known to the module by the symbol comfy_adapter:
 * setup once at import (kinds, tables, functions for the module; -1 with an
 * exception), restart after each start of the probe (ids of strings are new).
 */
struct hook_adapter {
	int (*setup)(PyObject *module);
	void (*restart)(void);
};
extern const struct hook_adapter comfy_adapter __attribute__((weak));

/* Types of the engine; ids of constants anew after a start. */
int hook_setup(void);
void hook_restart(void);
