/*
 * own.h - a descriptor of ours in a process that may close it behind our back
 * and then gets the same number for a file of its own.  Who uses it asks for
 * it each time, just before: what the host has put in its place is never
 * written, read or closed.  Any thread; one fstat a call.
 *
 * Only for descriptors with an inode of their own: files, directories, sockets.
 */
#pragma once

#include <stdint.h>

struct own_fd {
	_Atomic int fd; /* -1: none */
	uint64_t device, inode;
};

#define OWN_NONE         \
	{                \
		.fd = -1 \
	}

/* Before any other thread may see it; fd -1 is none. -1 when it cannot be examined. */
int own_set(struct own_fd *o, int fd);
/* The descriptor, or -1 when there is none or it is not ours any more. */
int own_get(const struct own_fd *o);
/* Forget it, and close it if it is ours. In the child of a fork too. */
void own_close(struct own_fd *o);
