/*
 * args.h - inside of the command line: its options, as a table.
 */
#pragma once

#include <stddef.h>

enum arg_kind { ARG_FLAG, ARG_TEXT, ARG_NUMBER, ARG_SET, ARG_KEY };

struct arg {
	char letter; /* '*': every verb; else those whose table row has it */
	const char *name, *value, *text;
	enum arg_kind kind;
	size_t at;       /* offset in struct cli */
	const char *key; /* ARG_KEY: the option that it sets */
};
extern const struct arg arg_table[];
extern const size_t arg_count;

const struct verb *args_verb(const char *name);
