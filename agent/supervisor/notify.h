/*
 * notify.h - one datagram to the service manager that started us.  Source:
 * sd_notify(3).
 */
#pragma once

#include "agent/base/err.h"

/* `to` is NOTIFY_SOCKET: a path, or "@name" of the abstract kind. "": nobody wants to know. */
MUST_CHECK enum err notify_say(const char *to, const char *text);
