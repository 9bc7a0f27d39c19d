/*
 * drain.h - asks ComfyUI over HTTP on loopback to interrupt its job, and waits
 * until that job has ended.  Runs in a process of its own, so that the
 * supervisor waits for nobody.  Source: ComfyUI's POST /interrupt, GET /prompt.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Where a ComfyUI command line says that it listens: "--port N", "--port=N", else 8188. */
uint16_t drain_port(char *const *command);

/* Fork a helper that ends within max_ms: pid, or -1 when it could not be started. */
pid_t drain_start(uint16_t port, uint32_t max_ms);
