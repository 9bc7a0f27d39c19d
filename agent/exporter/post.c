/* post.c - see post.h */
#include "agent/exporter/post.h"

#define CONNECT_TIMEOUT_MS 3000L

void
post_options(CURL *e, const struct post *p)
{
	curl_easy_reset(e);
	curl_easy_setopt(e, CURLOPT_URL, p->url);
	if (p->socket[0] != '\0')
		curl_easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, p->socket);
	if (p->direct) /* else http_proxy, https_proxy, all_proxy and no_proxy hold */
		curl_easy_setopt(e, CURLOPT_PROXY, "");
	if (p->ca_file[0] != '\0')
		curl_easy_setopt(e, CURLOPT_CAINFO, p->ca_file);
	curl_easy_setopt(e, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)p->timeout_ms);
	curl_easy_setopt(e, CURLOPT_POST, 1L);
	curl_easy_setopt(e, CURLOPT_POSTFIELDS, p->body);
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)p->body_bytes);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, p->headers);
	curl_easy_setopt(e, CURLOPT_USERAGENT, "comfymon/" COMFYMON_VERSION);
	curl_easy_setopt(e, CURLOPT_ERRORBUFFER, p->error);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, reply_take_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, p->reply);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, reply_take_header);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, p->reply);
}

enum err
post_header(struct curl_slist **list, const char *text)
{
	struct curl_slist *more = curl_slist_append(*list, text);

	if (more == NULL)
		return E_NOMEM;
	*list = more;
	return E_OK;
}
