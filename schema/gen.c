/*
 * gen.c - prints what comes of the tables: the reference pages and the JSON
 * Schema of events.  A program of the build; one thread.
 *
 *   schema_gen DIR           write them into DIR
 *   schema_gen --check DIR   exit 1 and name those that are not as they would be
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema/frame.h"
#include "schema/tables.h"

#define STALE "<!-- made by schema_gen from %s: do not edit -->\n\n"

static void
event_page(FILE *f)
{
	fprintf(f, STALE "# Records of a probe\n\n", "schema/events.def");
	fprintf(f,
	    "Offsets count from the payload, behind the %u bytes of a record's header. "
	    "All numbers are little-endian.\n",
	    RECORD_HEADER_BYTES);
	for (size_t i = 0; i < event_count; i++) {
		const struct event_desc *e = &event_table[i];

		fprintf(f, "\n## %s (%d)\n\n%s. Fixed part: %u bytes%s.\n", e->name, (int)e->id,
		    e->text, e->fixed_bytes,
		    e->tail == TAIL_TAGS ? ", then tags up to the end of the payload" : "");
		if (e->field_count > 0)
			fprintf(f, "\n| offset | field | kind | |\n|---|---|---|---|\n");
		for (size_t k = 0; k < e->field_count; k++)
			fprintf(f, "| %u | `%s` | %s | %s |\n", e->fields[k].offset,
			    e->fields[k].name, field_kind_name(e->fields[k].kind),
			    e->fields[k].text);
	}
}

static void
field_schema(FILE *f, const struct field_desc *d)
{
	static const char *const least[] = { [KIND_U8] = "0",
		[KIND_U16] = "0",
		[KIND_U32] = "0",
		[KIND_U64] = "0",
		[KIND_I8] = "-128",
		[KIND_I64] = "-9223372036854775808" };
	static const char *const most[] = { [KIND_U8] = "255",
		[KIND_U16] = "65535",
		[KIND_U32] = "4294967295",
		[KIND_U64] = "18446744073709551615",
		[KIND_I8] = "127",
		[KIND_I64] = "9223372036854775807" };

	fprintf(f, "        \"%s\": { \"description\": \"%s\", ", d->name, d->text);
	if (d->kind == KIND_STR)
		fprintf(f, "\"type\": \"string\", \"maxLength\": %u }", FRAME_STRING_MAX_BYTES);
	else
		fprintf(f, "\"type\": \"integer\", \"minimum\": %s, \"maximum\": %s }",
		    least[d->kind], most[d->kind]);
}

static void
event_schema_one(FILE *f, const struct event_desc *e)
{
	fprintf(f,
	    "    {\n      \"title\": \"%s\",\n      \"description\": \"%s\",\n"
	    "      \"type\": \"object\",\n      \"properties\": {\n"
	    "        \"event\": { \"const\": \"%s\" }",
	    e->name, e->text, e->name);
	for (size_t k = 0; k < e->field_count; k++) {
		fputs(",\n", f);
		field_schema(f, &e->fields[k]);
	}
	if (e->tail == TAIL_TAGS)
		fputs(",\n        \"tags\": { \"type\": \"object\", \"additionalProperties\": "
		      "{ \"type\": [\"string\", \"number\"] } }",
		    f);
	fputs("\n      },\n      \"required\": [\"event\"", f);
	for (size_t k = 0; k < e->field_count; k++)
		fprintf(f, ", \"%s\"", e->fields[k].name);
	fputs("],\n      \"additionalProperties\": false\n    }", f);
}

static void
event_schema(FILE *f)
{
	fputs("{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
	      "  \"title\": \"comfymon records, strings resolved\",\n"
	      "  \"$comment\": \"made by schema_gen from schema/events.def: do not edit\",\n"
	      "  \"oneOf\": [\n",
	    f);
	for (size_t i = 0; i < event_count; i++) {
		event_schema_one(f, &event_table[i]);
		fputs(i + 1 < event_count ? ",\n" : "\n", f);
	}
	fputs("  ]\n}\n", f);
}

#define SPAN(name, resource, type, text)
#define TAG(group, key, kind, text)
#define COUNTER(stage, what, unit, text)
#define JOB_STATE(name, from, text)

static void
name_page(FILE *f)
{
	fprintf(f, STALE "# Names\n\n## Spans\n\n| name | resource | type | |\n|---|---|---|---|\n",
	    "schema/names.def");
#undef SPAN
#define SPAN(name, resource, type, text) \
	fprintf(f, "| `%s` | `%s` | %s | %s |\n", name, resource, type, text);
#include "schema/names.def"
#undef SPAN
#define SPAN(name, resource, type, text)
	fputs("\n## Tags\n\n| span | key | | |\n|---|---|---|---|\n", f);
#undef TAG
#define TAG(group, key, kind, text) \
	fprintf(f, "| %s | `%s` | %s | %s |\n", #group, key, #kind, text);
#include "schema/names.def"
#undef TAG
#define TAG(group, key, kind, text)
	fputs("\n## Counters\n\n| for scrapers | for DogStatsD | |\n|---|---|---|\n", f);
#undef COUNTER
#define COUNTER(stage, what, unit, text)                                                          \
	fprintf(f, "| `comfymon_%s_%s_%s` | `comfymon.%s.%s` | %s |\n", stage, what, unit, stage, \
	    what, text);
#include "schema/names.def"
#undef COUNTER
#define COUNTER(stage, what, unit, text)
	fputs("\n## Job states\n\n| state | from | |\n|---|---|---|\n", f);
#undef JOB_STATE
#define JOB_STATE(name, from, text) fprintf(f, "| `%s` | %s | %s |\n", name, from, text);
#include "schema/names.def"
}

static const struct {
	const char *name;
	void (*print)(FILE *f);
} pages[] = {
	{ "events.md", event_page },
	{ "events.schema.json", event_schema },
	{ "names.md", name_page },
};

static bool
same_as_file(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "rb");
	bool same = f != NULL;

	for (size_t i = 0; same && i < n; i++)
		same = getc(f) == (unsigned char)text[i];
	same = same && getc(f) == EOF;
	if (f != NULL)
		fclose(f);
	return same;
}

static bool
write_file(const char *path, const char *text, size_t n)
{
	FILE *f = fopen(path, "wb");

	if (f == NULL)
		return false;

	bool ok = fwrite(text, 1, n, f) == n;

	return fclose(f) == 0 && ok;
}

int
main(int argc, char **argv)
{
	bool check = argc == 3 && strcmp(argv[1], "--check") == 0;
	int failed = 0;

	if (argc != 2 && !check) {
		fputs("usage: schema_gen [--check] DIR\n", stderr);
		return 2;
	}
	for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++) {
		char path[4096], *text = NULL;
		size_t n = 0;
		FILE *f = open_memstream(&text, &n);

		if (f == NULL)
			return 1;
		pages[i].print(f);
		fclose(f);
		snprintf(path, sizeof path, "%s/%s", argv[argc - 1], pages[i].name);
		if (!(check ? same_as_file(path, text, n) : write_file(path, text, n))) {
			fprintf(stderr, "%s %s\n", path,
			    check ? "is not what the tables say" : "could not be written");
			failed = 1;
		}
		free(text);
	}
	return failed;
}
