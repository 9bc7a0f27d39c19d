/*
 * libcurl.h - libcurl, loaded when there is something to send.  The functions
 * of <curl/curl.h> that this room calls are called by their own names once
 * libcurl_open has said E_OK; before that they may not be.
 */
#pragma once

#include <curl/curl.h>

#include "agent/base/err.h"

/*
 * Load it and make it ready (curl_global_init), once for the whole process; it
 * stays.  Any thread.  E_IO: it is not here or lacks a function, and *why says
 * so; the answer is the same at every call.
 */
MUST_CHECK enum err libcurl_open(const char **why);
