/*
 * libcurl.c - libcurl by dlopen.  It brings thirty other libraries (TLS, LDAP,
 * Kerberos ...): linked, they cost every start of the program, the agent's and
 * each verb's, 10 of 18 million instructions and 4 MB, whether or not anything
 * is ever sent.
 *
 * So the program is not linked with it.  The functions that the room calls are
 * defined here and hand over to the library, so that callers read, and are
 * checked by the compiler, as with any other libcurl.
 */
#include "agent/exporter/libcurl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Macros that check the arguments' types, for callers. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

/* F(result, name, parameters, arguments) */
#define FUNCTIONS(F)                                                                           \
	F(CURLcode, curl_global_init, (long flags), (flags))                                   \
	F(CURL *, curl_easy_init, (void), ())                                                  \
	F(void, curl_easy_reset, (CURL * e), (e))                                              \
	F(void, curl_easy_cleanup, (CURL * e), (e))                                            \
	F(const char *, curl_easy_strerror, (CURLcode code), (code))                           \
	F(CURLM *, curl_multi_init, (void), ())                                                \
	F(CURLMcode, curl_multi_add_handle, (CURLM * m, CURL * e), (m, e))                     \
	F(CURLMcode, curl_multi_remove_handle, (CURLM * m, CURL * e), (m, e))                  \
	F(CURLMcode, curl_multi_perform, (CURLM * m, int *running), (m, running))              \
	F(CURLMcode, curl_multi_poll,                                                          \
	    (CURLM * m, struct curl_waitfd fds[], unsigned n, int timeout_ms, int *ready),     \
	    (m, fds, n, timeout_ms, ready))                                                    \
	F(CURLMcode, curl_multi_wakeup, (CURLM * m), (m))                                      \
	F(CURLMsg *, curl_multi_info_read, (CURLM * m, int *left), (m, left))                  \
	F(CURLMcode, curl_multi_cleanup, (CURLM * m), (m))                                     \
	F(struct curl_slist *, curl_slist_append, (struct curl_slist * l, const char *text),   \
	    (l, text))                                                                         \
	F(void, curl_slist_free_all, (struct curl_slist * l), (l))                             \
	F(CURLU *, curl_url, (void), ())                                                       \
	F(CURLUcode, curl_url_set, (CURLU * u, CURLUPart p, const char *text, unsigned flags), \
	    (u, p, text, flags))                                                               \
	F(CURLUcode, curl_url_get, (CURLU * u, CURLUPart p, char **text, unsigned flags),      \
	    (u, p, text, flags))                                                               \
	F(void, curl_url_cleanup, (CURLU * u), (u))                                            \
	F(void, curl_free, (void *p), (p))

static struct {
#define F(result, name, parameters, arguments) result(*name) parameters;
	FUNCTIONS(F)
#undef F
	CURLcode (*curl_easy_setopt)(CURL *e, CURLoption option, ...);
	CURLcode (*curl_easy_getinfo)(CURL *e, CURLINFO info, ...);
} lib;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static enum err opened = E_IO;
static char reason[160];

#define F(result, name, parameters, arguments) \
	result name parameters                 \
	{                                      \
		return lib.name arguments;     \
	}
FUNCTIONS(F)
#undef F

/* What both take is one long, curl_off_t or pointer, and each is passed like the others. */
_Static_assert(sizeof(long) == sizeof(void *) && sizeof(curl_off_t) == sizeof(void *),
    "an argument may be handed over without knowing which it is");

CURLcode
curl_easy_setopt(CURL *e, CURLoption option, ...)
{
	va_list ap;
	void *value;

	va_start(ap, option);
	value = va_arg(ap, void *);
	va_end(ap);
	return lib.curl_easy_setopt(e, option, value);
}

CURLcode
curl_easy_getinfo(CURL *e, CURLINFO info, ...)
{
	va_list ap;
	void *value;

	va_start(ap, info);
	value = va_arg(ap, void *);
	va_end(ap);
	return lib.curl_easy_getinfo(e, info, value);
}

/* POSIX promises that a pointer to a function survives this; ISO C has no cast for it. */
static bool
find(void *library, const char *symbol, void *field, size_t n)
{
	void *p = dlsym(library, symbol);

	if (p == NULL) {
		snprintf(reason, sizeof reason, CURL_SONAME ": no %s", symbol);
		return false;
	}
	memcpy(field, &p, n);
	return true;
}

#define FIND(name) find(library, #name, &lib.name, sizeof lib.name)

static void
open_once(void)
{
	void *library = dlopen(CURL_SONAME, RTLD_NOW | RTLD_LOCAL);
	CURLcode code;

	if (library == NULL) {
		snprintf(reason, sizeof reason, "%.150s", dlerror());
		return;
	}
#define F(result, name, parameters, arguments) \
	if (!FIND(name))                       \
		return;
	FUNCTIONS(F)
#undef F
	if (!FIND(curl_easy_setopt) || !FIND(curl_easy_getinfo))
		return;
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	if (code == CURLE_OK)
		opened = E_OK;
	else
		snprintf(reason, sizeof reason, "libcurl: %s", curl_easy_strerror(code));
}

enum err
libcurl_open(const char **why)
{
	(void)pthread_once(&once, open_once);
	*why = reason;
	return opened;
}
