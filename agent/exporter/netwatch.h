/*
 * netwatch.h - has the network of this machine changed?  A netlink socket that
 * tells of links, addresses and routes; the exporter's thread.
 */
#pragma once

#include <stdbool.h>

/* A descriptor to poll for reading, or -1 where the kernel has none for us: then rests just last.
 */
int netwatch_open(void);
/* Read what has come; true when something was added or came up. Never waits. */
bool netwatch_changed(int fd);
