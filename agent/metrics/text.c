/*
 * text.c - see text.h.
 */
#include <stdbool.h>
#include <string.h>

#include "agent/core/normalise.h"
#include "agent/metrics/text.h"

/* Valid UTF-8, cut on a character; scratch is used when something has to change. */
static struct norm_text
legal(const char *s, size_t n, char scratch[TAG_VALUE_MAX + 4])
{
	/* What is beyond cannot be reached; a text of megabytes is not walked. */
	size_t most = 4 * (size_t)TAG_VALUE_MAX;

	return norm_utf8(s, n < most ? n : most, TAG_VALUE_MAX, scratch);
}

size_t
text_statsd(char out[TAG_VALUE_MAX + 1], const char *s, size_t n, bool key)
{
	char scratch[TAG_VALUE_MAX + 4];
	struct norm_text t = legal(s, n, scratch);

	for (size_t i = 0; i < t.n; i++) {
		unsigned char c = (unsigned char)t.s[i];

		out[i] =
		    c <= ' ' || c == 127 || c == '|' || c == ',' || c == '#' || (key && c == ':')
			? '_'
			: (char)c;
	}
	out[t.n] = '\0';
	return t.n;
}

size_t
text_label(char out[LABEL_VALUE_MAX + 1], const char *s, size_t n)
{
	char scratch[TAG_VALUE_MAX + 4];
	struct norm_text t = legal(s, n, scratch);
	size_t k = 0;

	for (size_t i = 0; i < t.n; i++) {
		if (t.s[i] == '\\' || t.s[i] == '"' || t.s[i] == '\n')
			out[k++] = '\\';
		out[k++] = t.s[i] == '\n' ? 'n' : t.s[i];
	}
	out[k] = '\0';
	return k;
}
