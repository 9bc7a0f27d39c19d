/*
 * http.c - a body to a Datadog agent: /v0.4/traces over TCP or a Unix socket.
 * Exporter's thread.  Only this file, post.c, exporter.c and webhook.c know libcurl.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/exporter/line.h"
#include "agent/exporter/post.h"

#define CEILING         60 /* times the stall limit: a request ends in any case */
#define REPLY_END_BYTES (16u * REPLY_MAX_BYTES) /* no agent's reply is that large */

bool
http_is_loopback(const char *url)
{
	CURLU *u = curl_url();
	char *host = NULL;
	size_t n;
	bool yes = false;

	if (u != NULL && curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
		n = strlen(host);
		yes = strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
		      strncmp(host, "127.", 4) == 0 ||
		      (n > 10 && strcasecmp(host + n - 10, ".localhost") == 0);
	}
	curl_free(host);
	curl_url_cleanup(u);
	return yes;
}

enum err
http_init(struct line *l)
{
	const char *url = l->options.url;

	l->easy = curl_easy_init();
	if (l->easy == NULL)
		return E_NOMEM;
	if (strncmp(url, "unix://", 7) == 0) {
		snprintf(l->socket, sizeof l->socket, "%.290s", url + 7);
		snprintf(l->target, sizeof l->target, "http://localhost/v0.4/traces");
		l->direct = true;
	} else {
		size_t n = strlen(url);

		while (n > 0 && url[n - 1] == '/')
			n--;
		snprintf(l->target, sizeof l->target, "%.*s/v0.4/traces", (int)n, url);
		l->direct = http_is_loopback(l->target);
	}
	return E_OK;
}

static enum err
set_headers(struct line *l)
{
	const struct probe_row *probe = l->leases[0].probe;
	char count[48], version[80];
	const char *const fixed[] = { "Content-Type: application/msgpack",
		"Datadog-Meta-Lang: python", "Datadog-Meta-Lang-Interpreter: CPython",
		"Datadog-Meta-Tracer-Version: " COMFYMON_VERSION,
		"Datadog-Client-Computed-Top-Level: yes", "Expect:", version, count };
	char language[40];
	enum err rv = E_OK;

	snprintf(count, sizeof count, "X-Datadog-Trace-Count: %u", l->traces);
	if (!wire_attr_find(
		probe->attrs, probe->attrs_bytes, "language_version", language, sizeof language))
		snprintf(language, sizeof language, "3");
	snprintf(version, sizeof version, "Datadog-Meta-Lang-Version: %s", language);
	curl_slist_free_all(l->headers);
	l->headers = NULL;
	for (size_t i = 0; rv == E_OK && i < sizeof fixed / sizeof fixed[0]; i++)
		rv = post_header(&l->headers, fixed[i]);
	return rv;
}

static void
set_options(struct line *l)
{
	struct post p = { .url = l->target,
		.socket = l->socket,
		.ca_file = l->options.ca_file,
		.direct = l->direct,
		.timeout_ms = CEILING * l->options.timeout_ms,
		.body = l->body.p,
		.body_bytes = l->body.n,
		.headers = l->headers,
		.error = l->error,
		.reply = &l->reply };

	post_options(l->easy, &p);
	curl_easy_setopt(l->easy, CURLOPT_PRIVATE, l);
}

enum err
http_begin(struct line *l, CURLM *multi)
{
	enum err rv;

	reply_begin(&l->reply, REPLY_MAX_BYTES, REPLY_END_BYTES);
	l->error[0] = '\0';
	rv = set_headers(l);
	if (rv != E_OK)
		return rv;
	set_options(l);
	return curl_multi_add_handle(multi, l->easy) == CURLM_OK ? E_OK : E_NOMEM;
}

uint64_t
http_moved(const struct line *l)
{
	curl_off_t up = 0;

	(void)curl_easy_getinfo(l->easy, CURLINFO_SIZE_UPLOAD_T, &up);
	return (uint64_t)up + l->reply.body_bytes + l->reply.header_bytes;
}

void
http_end(struct line *l, CURLM *multi, CURLcode code, struct outcome *out)
{
	long status = 0;

	(void)curl_easy_getinfo(l->easy, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_multi_remove_handle(multi, l->easy);
	out->error = "";
	if (code != CURLE_OK)
		out->error = l->error[0] != '\0' ? l->error : curl_easy_strerror(code);
	if (reply_endless(&l->reply))
		out->error = "the reply does not end: it was cut off";
	/* A refusal whose body broke off is a refusal all the same; a 2xx must be whole. */
	if (code != CURLE_OK && (status < 400 || status > 599))
		status = -(long)code;
	out->status = (int)status;
	out->body = (const char *)l->reply.body.p;
	out->body_bytes = l->reply.body.n;
	out->retry_after = l->reply.retry_after;
}

void
http_fini(struct line *l, CURLM *multi)
{
	if (l->easy != NULL && l->busy)
		(void)curl_multi_remove_handle(multi, l->easy);
	curl_easy_cleanup(l->easy);
	curl_slist_free_all(l->headers);
	l->easy = NULL;
	l->headers = NULL;
	outbuf_free(&l->reply.body);
}
