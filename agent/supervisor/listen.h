/*
 * listen.h - where a ComfyUI command line says that its server listens, as an
 * address that this host can ask.  Pure.  Source: ComfyUI's options --listen,
 * --port, --tls-keyfile.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct listen {
	struct sockaddr_storage to;
	socklen_t bytes;
	uint16_t port;
	bool tls; /* it cannot be asked without */
};

/* What is not said, or not understood, is ComfyUI's default: 127.0.0.1, port 8188. */
void listen_of(char *const *command, struct listen *out);
