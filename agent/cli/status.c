/*
 * status.c - `comfymon status`: one screen.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "agent/cli/cli.h"

static json_int_t
number(json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static const char *
text(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

static const char *
state_style(const char *state)
{
	if (strcmp(state, "ok") == 0)
		return "green";
	return strcmp(state, "degraded") == 0 || strcmp(state, "hold") == 0 ? "red" : "yellow";
}

/* "  ring_full 3, torn 1" of an object of numbers, nothing when empty. */
static void
print_reasons(const char *label, json_t *o)
{
	const char *key, *comma = "";
	json_t *v;

	if (json_object_size(o) == 0)
		return;
	printf("  %-12s", label);
	json_object_foreach(o, key, v)
	{
		printf("%s%s %" JSON_INTEGER_FORMAT, comma, key, json_integer_value(v));
		comma = ", ";
	}
	putchar('\n');
}

static void
print_signals(const struct term *t, json_t *root)
{
	json_t *s = json_object_get(json_object_get(root, "signals"), "trace");
	bool identity = json_is_true(json_object_get(s, "identity"));

	printf("%sspans%s\n", term_style(t, "bold"), term_style(t, "off"));
	printf("  received %" JSON_INTEGER_FORMAT " = sent %" JSON_INTEGER_FORMAT
	       " + sampled out %" JSON_INTEGER_FORMAT " + queued %" JSON_INTEGER_FORMAT
	       " + in flight %" JSON_INTEGER_FORMAT " + dropped + rejected: %s%s%s\n",
	    number(s, "received"), number(s, "sent"), number(s, "sampled_out"), number(s, "queued"),
	    number(s, "in_flight"), term_style(t, identity ? "green" : "red"),
	    identity ? "holds" : "DOES NOT HOLD", term_style(t, "off"));
	print_reasons("dropped", json_object_get(s, "dropped"));
	print_reasons("rejected", json_object_get(s, "rejected"));
}

static void
print_destinations(const struct term *t, json_t *root)
{
	char ago[32];
	size_t i;
	json_t *d;

	json_array_foreach(json_object_get(root, "destinations"), i, d)
	{
		json_int_t oldest = number(d, "oldest_queued_s"), status = number(d, "last_status");
		const char *state = text(d, "state"), *error = text(d, "last_error");

		if (i == 0)
			printf("%sdestinations%s\n", term_style(t, "bold"), term_style(t, "off"));
		printf("  %-12s %s%s%s", text(d, "name"), term_style(t, state_style(state)), state,
		    term_style(t, "off"));
		if (status != 0)
			printf(", last reply %" JSON_INTEGER_FORMAT, status);
		printf(", %" JSON_INTEGER_FORMAT " chunks waiting", number(d, "queued"));
		if (oldest > 0)
			printf(", oldest %s", term_ago((double)oldest, ago, sizeof ago));
		if (error[0] != '\0')
			printf(", %s", error);
		putchar('\n');
		if (strcmp(state, "local") == 0)
			puts("               no Datadog agent was ever reached and none was asked "
			     "for; set "
			     "DD_AGENT_HOST or DD_TRACE_AGENT_URL");
	}
}

static void
print_probes(const struct term *t, json_t *root)
{
	size_t i;
	json_t *p;

	json_array_foreach(json_object_get(root, "probes"), i, p)
	{
		bool alive = json_is_true(json_object_get(p, "alive"));

		if (i == 0)
			printf("%sprobes%s\n", term_style(t, "bold"), term_style(t, "off"));
		printf("  pid %-8" JSON_INTEGER_FORMAT " %s%s%s, %" JSON_INTEGER_FORMAT
		       " spans, %s\n",
		    number(p, "pid"), term_style(t, alive ? "green" : "dim"),
		    alive ? "alive" : "gone", term_style(t, "off"), number(p, "spans"),
		    text(p, "service"));
		print_reasons("lost inside", json_object_get(p, "drops"));
		if (i >= 9) {
			printf(
			    "  ... %" JSON_INTEGER_FORMAT " in all\n", number(root, "probe_total"));
			break;
		}
	}
}

static void
print_status(const struct term *t, json_t *root)
{
	json_t *store = json_object_get(root, "store");
	const char *state = text(root, "state"), *reason = text(root, "reason");
	char a[32], b[32], c[32];

	printf("comfymon %s, ", text(root, "version"));
	if (number(root, "pid") != 0)
		printf("pid %" JSON_INTEGER_FORMAT ", up %s, ", number(root, "pid"),
		    term_ago((double)number(root, "uptime_s"), a, sizeof a));
	printf("%s%s%s%s%s\n", term_style(t, state_style(state)), state, term_style(t, "off"),
	    reason[0] != '\0' ? ": " : "", reason);
	print_signals(t, root);
	print_destinations(t, root);
	print_probes(t, root);
	printf("%sbuffer%s\n  %s of %s, history %s, in %s%s\n", term_style(t, "bold"),
	    term_style(t, "off"), config_size_text((uint64_t)number(store, "bytes"), a, sizeof a),
	    config_size_text((uint64_t)number(store, "cap_bytes"), b, sizeof b),
	    config_size_text((uint64_t)number(store, "history_bytes"), c, sizeof c),
	    text(root, "data_dir"),
	    json_is_true(json_object_get(store, "volatile")) ? " (volatile: in memory)" : "");
}

int
verb_status(struct cli *c)
{
	struct term t = term_of(c, stdout);
	char *body = NULL;
	json_error_t e;
	int rv = view_get(c, "/status", &body);

	if (rv != CLI_OK)
		return rv;

	json_t *root = json_loads(body, 0, &e);

	if (root == NULL) {
		fprintf(stderr, "comfymon: the agent's answer is no JSON: %s\n", e.text);
		rv = CLI_FAILED;
	} else if (c->json) {
		puts(body);
	} else {
		print_status(&t, root);
	}
	json_decref(root);
	free(body);
	return rv;
}
