/*
 * order.h - RUN_DIR/order-LIFE: the collector asks the parent of a supervised
 * process to restart it.  The parent looks each second, obeys what is meant for
 * the life that it runs, and removes it.  Owner only, whole or absent.
 *
 *	why=zombie detail=thread 4711 of the worker has gone
 */
#pragma once

#include "agent/base/err.h"
#include "agent/supervisor/death.h"

enum order_why {
	ORDER_ZOMBIE,        /* the worker's thread is dead */
	ORDER_HTTP_SILENT,   /* the server does not answer */
	ORDER_NO_PROGRESS,   /* its job does not move, and an interrupt did not help */
	ORDER_CUDA_POISONED, /* its device fails job after job */
	ORDER_SOFT_LIMIT,    /* over the soft limit, and idle */
	ORDER_WHYS
};

struct order {
	enum order_why why;
	char detail[200]; /* one line, printable ASCII */
};

const char *order_why_name(enum order_why w);
/* The verdict of an end that this brought about. */
enum cause order_cause(enum order_why w);

/* `detail` is cut to what an order holds; what is no printable ASCII becomes '?'. */
MUST_CHECK enum err order_give(
    const char *run_dir, const char *life, enum order_why why, const char *detail);
/* E_NOTFOUND: there is none. E_INVAL: what lay there was no order; it is gone too. */
MUST_CHECK enum err order_take(const char *run_dir, const char *life, struct order *out);
