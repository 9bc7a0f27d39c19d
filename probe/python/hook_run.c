/*
 * hook_run.c - runs the callbacks of a hook around a call, and lets nothing of
 * what goes wrong in them reach the host.  See hook.h
 */
#include "probe/python/hook_impl.h"

static void
failed(struct hook *h)
{
	py_drop();
	if (++h->failures >= HOOK_FAILURES_MAX)
		h->off = true;
}

bool
hook_before(struct hook_call *c)
{
	struct hook *h = c->hook;
	h->calls++;
	if (h->kind->on_call == NULL)
		return true;
	if (h->kind->on_call(c) == 0 && !PyErr_Occurred())
		return true;
	failed(h);
	if (c->span != NULL) {
		span_end(c->span);
		Py_CLEAR(c->span);
	}
	return false;
}

static void
finish(struct hook_call *c)
{
	struct span *s = c->span;
	if (s == NULL)
		return;
	c->span = NULL;
	span_deactivate(s);
	span_end(s);
	Py_DECREF(s);
}

void
hook_returned(struct hook_call *c, PyObject *result)
{
	const struct hook_kind *k = c->hook->kind;
	if (k->on_return != NULL && (k->on_return(c, result) != 0 || PyErr_Occurred()))
		failed(c->hook);
	finish(c);
}

void
hook_raised(struct hook_call *c)
{
	const struct hook_kind *k = c->hook->kind;
	struct py_raised r;
	py_fetch(&r);
#if PY_VERSION_HEX < 0x030c0000
	PyErr_NormalizeException(&r.type, &r.value, &r.tb);
	PyObject *tb = Py_XNewRef(r.tb);
#else
	PyObject *tb = r.value != NULL ? PyException_GetTraceback(r.value) : NULL;
#endif
	if (k->on_raise != NULL && (k->on_raise(c, r.value, tb) != 0 || PyErr_Occurred()))
		failed(c->hook);
	Py_XDECREF(tb);
	finish(c);
	py_restore(&r);
}
