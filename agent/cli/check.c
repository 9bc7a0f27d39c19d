/*
 * check.c - `comfymon check`: each option, its value and where it came from.
 * That the program got here means the configuration is valid.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"
#include "agent/cli/offline.h"

#define SHOWN_BYTES 1200

/* A text without the user and password of an address in it, and without control characters. */
static void
without_secrets(char *out, size_t cap, const char *text)
{
	size_t n = 0;

	while (*text != '\0' && n + 8 < cap) {
		if (strncmp(text, "://", 3) == 0) {
			size_t m = 3 + strcspn(text + 3, "/@, ");

			memcpy(out + n, text, 3);
			n += 3;
			text += 3;
			if (text[m - 3] == '@') {
				memcpy(out + n, "***", 3);
				n += 3;
				text += m - 3;
			}
			continue;
		}
		out[n++] = (unsigned char)*text < ' ' || *text == 127 ? '?' : *text;
		text++;
	}
	out[n] = '\0';
}

/* Behind the host of a webhook's address there may be a key. */
static void
hide_path(char *url, size_t cap)
{
	char *host = strstr(url, "://"), *path = host != NULL ? strpbrk(host + 3, "/?#") : NULL;

	if (path != NULL && path[1] != '\0')
		snprintf(path, cap - (size_t)(path - url), path[0] == '/' ? "/***" : "***");
}

/* The value as people read it. */
static const char *
shown(const struct config *c, enum option o, char *buf, size_t cap)
{
	const char *text = config_string(c, o);

	if (text[0] == '\0')
		return "";
	if (option_table[o].type == TYPE_SIZE)
		return config_size_text(config_number(c, o), buf, cap);
	if (option_table[o].type == TYPE_SECRET)
		return "***";
	without_secrets(buf, cap, text);
	if (o == OPT_WEBHOOK_URL)
		hide_path(buf, cap);
	return buf;
}

static int
print_json(const struct config *c)
{
	json_t *root = json_object();
	char origin[400], size[SHOWN_BYTES];

	for (int o = 0; o < OPTION_COUNT; o++)
		json_object_set_new(root, option_table[o].key,
		    json_pack("{s:o, s:o}", "value",
			cli_string(shown(c, (enum option)o, size, sizeof size)), "origin",
			cli_string(config_origin_text(c, (enum option)o, origin, sizeof origin))));
	return cli_print_json(root);
}

static void
print_table(const struct term *t, const struct config *c)
{
	char origin[400], size[SHOWN_BYTES];

	printf("configuration file: %s\n", config_file(c)[0] != '\0' ? config_file(c) : "none");
	for (int o = 0; o < OPTION_COUNT; o++) {
		bool set = config_is_set(c, (enum option)o);
		const char *value = shown(c, (enum option)o, size, sizeof size);

		printf("%s%-21s ", term_style(t, set ? "bold" : "off"), option_table[o].key);

		int used = term_put(t, value[0] != '\0' ? value : "-", -1);

		fputs(term_style(t, "off"), stdout);
		term_pad(t, 22 - used);
		printf(" %s", term_style(t, set ? "off" : "dim"));
		term_put(t, config_origin_text(c, (enum option)o, origin, sizeof origin), -1);
		printf("%s\n", term_style(t, "off"));
	}
}

/* What the options come to. */
static void
print_destinations(const struct term *t, const struct destination_options *d, size_t n)
{
	if (n == 0)
		puts("traces stay here: no destination");
	for (size_t i = 0; i < n; i++) {
		char url[SHOWN_BYTES];

		without_secrets(url, sizeof url, d[i].url);
		fputs("traces go to ", stdout);
		term_put(t, d[i].name, -1);
		fputs(": ", stdout);
		term_put(t, url, -1);
		putchar('\n');
	}
}

/* What the probe of a process said of itself, through the agent. */
static int
print_probe(const struct cli *c)
{
	char *body = NULL;
	json_error_t e;
	size_t i;
	json_t *p;
	int rv = view_get(c, "/status", &body), found = 0;

	if (rv != CLI_OK)
		return rv;

	json_t *root = json_loads(body, 0, &e);

	json_array_foreach(json_object_get(root, "probes"), i, p)
	{
		if (json_integer_value(json_object_get(p, "pid")) != c->pid)
			continue;
		json_dumpf(
		    p, stdout, c->json ? JSON_COMPACT : JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
		found++;
	}
	json_decref(root);
	free(body);
	if (found > 0)
		return CLI_OK;
	fprintf(stderr, "comfymon: no probe with pid %ld\n", c->pid);
	return CLI_PROBLEM;
}

int
verb_check(struct cli *c)
{
	struct destination_options destinations[STATUS_DESTINATIONS];
	struct term t = term_of(c, stdout);
	size_t n = 0;

	if (c->print_default || c->print_schema) {
		if (c->print_default)
			config_print_default(stdout);
		else
			config_print_schema(stdout);
		return CLI_OK;
	}

	int rv = destinations_of(c, destinations, &n);

	if (rv != CLI_OK)
		return rv;
	if (c->json) {
		rv = print_json(c->config);
	} else {
		print_table(&t, c->config);
		print_destinations(&t, destinations, n);
	}
	return c->pid > 0 ? print_probe(c) : rv;
}
