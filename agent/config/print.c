/*
 * print.c - the two files that come of options.def: the commented default
 * configuration and its JSON Schema.  Both are committed under config/ and a
 * test compares.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/config/config.h"

static const char *const type_words[] = {
	[TYPE_STRING] = "text",
	[TYPE_SECRET] = "text, shown nowhere",
	[TYPE_BOOL] = "true or false",
	[TYPE_COUNT] = "whole number",
	[TYPE_SIZE] = "size: 64M, 1.5G",
	[TYPE_DURATION] = "duration: 500ms, 30s, 7d",
	[TYPE_RATE] = "0 to 1",
	[TYPE_JSON] = "text of a JSON array",
};

/* Bytes of the section before the dot, 0 for a key at the top. */
static size_t
section_bytes(const char *key)
{
	const char *dot = strchr(key, '.');

	return dot != NULL ? (size_t)(dot - key) : 0;
}

static bool
same_section(const char *a, const char *b)
{
	size_t n = section_bytes(a);

	return n == section_bytes(b) && strncmp(a, b, n) == 0;
}

/* Print each option of the section of option `first` through fn; top-level keys are a section too.
 */
typedef void (*line_fn)(
    FILE *f, const struct option_desc *d, const char *name, int depth, bool last);

static void
each_in_section(FILE *f, const char *first, int depth, line_fn fn)
{
	int last = 0;

	for (int o = 0; o < OPTION_COUNT; o++)
		if (same_section(option_table[o].key, first))
			last = o;
	for (int o = 0; o < OPTION_COUNT; o++) {
		const struct option_desc *d = &option_table[o];
		size_t n = section_bytes(d->key);

		if (same_section(d->key, first))
			fn(f, d, d->key + (n > 0 ? n + 1 : 0), depth, o == last);
	}
}

static bool
first_of_section(int o)
{
	for (int i = 0; i < o; i++)
		if (same_section(option_table[i].key, option_table[o].key))
			return false;
	return true;
}

static void
indent(FILE *f, int depth)
{
	for (int i = 0; i < depth; i++)
		fputc('\t', f);
}

static void
default_line(FILE *f, const struct option_desc *d, const char *name, int depth, bool last)
{
	indent(f, depth);
	fprintf(f, "// %s (%s%s%s)\n", d->text, type_words[d->type], d->env != NULL ? "; " : "",
	    d->env != NULL ? d->env : "");
	indent(f, depth);
	fprintf(f, d->def[0] != '\0' ? "\"%s\": \"%s\"" : "\"%s\": null", name, d->def);
	fputs(last ? "\n" : ",\n", f);
}

/* "a b" as an enumeration. */
static void
schema_words(FILE *f, const char *words)
{
	if (words == NULL)
		return;
	fputs(", \"enum\": [", f);
	while (*words != '\0') {
		size_t n = strcspn(words, " ");

		fprintf(f, "\"%.*s\", ", (int)n, words);
		words += n + (words[n] == ' ');
	}
	fputs("null]", f);
}

static void
schema_line(FILE *f, const struct option_desc *d, const char *name, int depth, bool last)
{
	indent(f, depth);
	fprintf(f, "\"%s\": {\"description\": \"%s\", \"type\": [%s\"string\", \"null\"]", name,
	    d->text,
	    d->type == TYPE_COUNT  ? "\"integer\", "
	    : d->type == TYPE_RATE ? "\"number\", "
	    : d->type == TYPE_BOOL ? "\"boolean\", "
				   : "");
	if (d->type == TYPE_COUNT || d->type == TYPE_RATE) {
		fprintf(f, ", \"minimum\": %" PRIu64, d->min);
		if (d->max != 0)
			fprintf(f, ", \"maximum\": %" PRIu64, d->max);
	}
	schema_words(f, config_choices((enum option)(d - option_table)));
	fprintf(f, ", \"default\": ");
	fprintf(f, d->def[0] != '\0' ? "\"%s\"}" : "null}", d->def);
	fputs(last ? "\n" : ",\n", f);
}

/* Sections in the order of the table, the top level last, so that commas are easy. */
static void
sections(FILE *f, int depth, line_fn fn, const char *open, const char *close)
{
	for (int o = 0; o < OPTION_COUNT; o++) {
		const char *key = option_table[o].key;
		size_t n = section_bytes(key);

		if (n == 0 || !first_of_section(o))
			continue;
		indent(f, depth);
		fprintf(f, "\"%.*s\": {%s\n", (int)n, key, open);
		each_in_section(f, key, depth + 1, fn);
		indent(f, depth);
		fprintf(f, "%s,\n", close);
	}
	each_in_section(f, "top", depth, fn);
}

void
config_print_default(void *file)
{
	FILE *f = file;

	fputs("// comfymon: every option with its default. All of it may be left out;\n"
	      "// the environment wins over this file, the command line over both.\n{\n",
	    f);
	sections(f, 1, default_line, "", "}");
	fputs("}\n", f);
}

void
config_print_schema(void *file)
{
	FILE *f = file;

	fputs("{\n\t\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
	      "\t\"title\": \"comfymon configuration (comments allowed)\",\n"
	      "\t\"type\": \"object\",\n\t\"additionalProperties\": false,\n\t\"properties\": {\n",
	    f);
	sections(f, 2, schema_line,
	    "\"type\": \"object\", \"additionalProperties\": false, \"properties\": {", "}}");
	fputs("\t}\n}\n", f);
}
