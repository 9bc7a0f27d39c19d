/*
 * place.c - where a ComfyUI listens, by its own command line.
 */
#include <stdio.h>
#include <string.h>

#include "agent/base/file.h"
#include "agent/resubmit/internal.h"
#include "agent/supervisor/listen.h"

#define COMMAND_MAX_BYTES (64u * 1024)
#define WORDS_MAX         256

enum err
place_of(uint64_t pid, struct sockaddr_storage *to, socklen_t *bytes)
{
	static char text[COMMAND_MAX_BYTES]; /* the room has one thread */
	char path[40], *words[WORDS_MAX + 1];
	struct listen at;
	size_t n, count = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/%llu/cmdline", (unsigned long long)pid);
	if (pid == 0 || (f = fopen(path, "re")) == NULL)
		return E_NOTFOUND;
	n = fread(text, 1, sizeof text - 1, f);
	fclose(f);
	if (n == 0) /* a zombie has none */
		return E_NOTFOUND;
	text[n] = '\0';
	for (size_t i = 0; i < n && count < WORDS_MAX; i += strlen(text + i) + 1)
		words[count++] = text + i;
	words[count] = NULL;
	listen_of(words, &at);
	if (at.tls)
		return E_STATE;
	*to = at.to;
	*bytes = at.bytes;
	return E_OK;
}
