/*
 * health.h - inside of the control room: the routes that say how things are to
 * everybody on this host, and what makes an agent one that works.
 */
#pragma once

#include "agent/control/routes.h"

/* 200: the agent works and no ComfyUI is broken. */
int get_healthz(const struct request *r, struct outbuf *out);
/* 200: a ComfyUI takes jobs now. */
int get_readyz(const struct request *r, struct outbuf *out);
/* 200: the page to scrape. */
int get_metrics(const struct request *r, struct outbuf *out);

/* Pure: the pipeline is asked once a second at most; it has half a minute before it is dead. */
bool alive_is_due(const struct alive *a, uint64_t now_ns);
void alive_note(struct alive *a, enum err answer, uint64_t now_ns);
bool alive_judge(const struct alive *a, uint64_t now_ns, char *wrong, size_t cap);
