/*
 * manual.c - help for the terminal and the manual page in mdoc, from the tables
 * of verbs, arguments, exit codes and options.
 */
#include <stdlib.h>
#include <string.h>

#include "agent/cli/args.h"
#include "agent/cli/cli.h"

/* Text of a page: what mdoc would take for markup is escaped. */
static void
put_mdoc(FILE *f, const char *s)
{
	bool first = true;

	for (; *s != '\0'; s++, first = false) {
		if (first && (*s == '.' || *s == '\''))
			fputs("\\&", f);
		if (*s == '\\')
			fputs("\\e", f);
		else if (*s == '-')
			fputs("\\-", f);
		else
			fputc(*s, f);
	}
}

/* A sentence begins a line, and no line is long. */
static void
put_sentences(FILE *f, const char *s)
{
	char word[128];
	int used = 0;

	while (*s != '\0') {
		size_t n = strcspn(s, " ");
		bool ends = n > 0 && s[n - 1] == '.' && s[n] == ' ';

		snprintf(word, sizeof word, "%.*s", (int)n, s);
		if (used > 0 && used + (int)n > 68) {
			fputc('\n', f);
			used = 0;
		}
		if (used > 0)
			fputc(' ', f);
		put_mdoc(f, word);
		used += (int)n + 1;
		s += n + strspn(s + n, " ");
		if (ends) {
			fputc('\n', f);
			used = 0;
		}
	}
	fputc('\n', f);
}

static void
put_item(FILE *f, const struct arg *a)
{
	fprintf(f, ".It Fl \\-%s", a->name + 2);
	if (a->value != NULL)
		fprintf(f, " Ar %s", a->value);
	fputc('\n', f);
	put_sentences(f, a->text);
}

static void
page_verbs(FILE *f)
{
	fputs(".Sh VERBS\n.Bl -tag -width 4n\n", f);
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verb_table[i];

		fprintf(f, ".It Cm %s", v->name);
		if (v->argument != NULL && v->argument[0] == '[')
			fprintf(f, " Op Ar %.*s", (int)strlen(v->argument) - 2, v->argument + 1);
		else if (v->argument != NULL) {
			fputs(" Ar ", f);
			put_mdoc(f, v->argument);
		}
		fputc('\n', f);
		put_mdoc(f, v->text);
		fputs(".\n", f);
		put_sentences(f, v->more);
		if (v->options[0] != '\0')
			fputs(".Bl -tag -width 4n\n", f);
		for (size_t k = 0; k < arg_count; k++)
			if (arg_table[k].letter != '*' && strchr(v->options, arg_table[k].letter))
				put_item(f, &arg_table[k]);
		if (v->options[0] != '\0')
			fputs(".El\n", f);
	}
	fputs(".El\n.Sh OPTIONS\nOf every verb:\n.Bl -tag -width 4n\n", f);
	for (size_t k = 0; k < arg_count; k++)
		if (arg_table[k].letter == '*')
			put_item(f, &arg_table[k]);
	fputs(".El\n", f);
}

static void
page_configuration(FILE *f)
{
	fputs(".Sh CONFIGURATION\n"
	      "Nothing needs to be configured.\n"
	      "An option is taken from the command line\n.Pq Fl \\-set Ar KEY Ns = Ns Ar VALUE ,\n"
	      "else from its environment variable, else from the file, else its default holds.\n"
	      "The file is JSON in which comments are allowed; a dot in a key is a level of it.\n"
	      ".Ic comfymon check \\-\\-print\\-default\n"
	      "prints one with every option.\n.Bl -tag -width 4n\n",
	    f);
	for (int o = 0; o < OPTION_COUNT; o++) {
		const struct option_desc *d = &option_table[o];

		fprintf(f, ".It Va %s", d->key);
		if (d->env != NULL)
			fprintf(f, " Pq Ev %s", d->env);
		fputc('\n', f);
		put_sentences(f, d->text);
		if (d->def[0] != '\0') {
			fputs("Default: ", f);
			put_mdoc(f, d->def);
			fputc('\n', f);
		}
	}
	fputs(".El\n", f);
}

static void
page_rest(FILE *f)
{
	fputs(".Sh ENVIRONMENT\nBeside those of the options:\n.Bl -tag -width 4n\n"
	      ".It Ev COMFYMON_CONFIG\nThe configuration file, unless\n.Fl \\-config\nnames one.\n"
	      ".It Ev NO_COLOR\nNot empty: no colours.\n"
	      ".El\n.Sh FILES\n.Bl -tag -width 4n\n"
	      ".It Pa /etc/comfymon/comfymon.json\nThe configuration, if there.\n"
	      ".It Pa buffer.db\nIn the data directory: what was taken and not yet delivered, and "
	      "the history.\n"
	      ".It Pa jobs.db\nThere too: the jobs, for any SQLite tool while the agent runs.\n"
	      ".It Pa deaths/\nThere too: a JSON file for each end of ComfyUI that comfymon run "
	      "saw.\n"
	      ".It Pa comfymon.sock , control.sock\nIn the run directory: where probes send, and "
	      "what the verbs ask.\n"
	      ".El\n.Sh EXIT STATUS\n.Bl -tag -width 4n -compact\n",
	    f);
	for (size_t i = 0; i < exit_count; i++) {
		fprintf(f, ".It %d\n", exit_table[i].code);
		put_mdoc(f, exit_table[i].text);
		fputs(".\n", f);
	}
	fputs(".El\n.Sh EXAMPLES\n.Bd -literal -offset indent\n"
	      "comfymon install \\-\\-comfyui ~/ComfyUI\n"
	      "comfymon traces \\-\\-state error \\-\\-since 1h\n"
	      "comfymon trace last \\-\\-tags\n"
	      "comfymon run \\-\\-memory\\-limit 48G \\-\\- python main.py \\-\\-listen\n"
	      "comfymon death last\n"
	      "comfymon jobs \\-\\-state failed,lost \\-\\-since 1h\n"
	      "comfymon status \\-\\-json | jq .signals.trace\n"
	      ".Ed\n",
	    f);
}

static void
print_page(FILE *f)
{
	fputs(".\\\" Made by comfymon help --man.\n.Dd $Mdocdate$\n.Dt COMFYMON 1\n.Os\n"
	      ".Sh NAME\n.Nm comfymon\n.Nd ComfyUI made visible in Datadog\n"
	      ".Sh SYNOPSIS\n.Nm\n.Ar VERB\n.Op Ar argument\n.Op Ar options\n.Nm\n.Fl \\-version\n"
	      ".Sh DESCRIPTION\n"
	      "A probe inside of ComfyUI records what a job does;\n"
	      "the agent keeps it on disk, makes traces of it, and delivers them\n"
	      "to Datadog, however bad the network is and whoever dies on the way.\n"
	      "Without Datadog the traces can be looked at here.\n",
	    f);
	page_verbs(f);
	page_configuration(f);
	page_rest(f);
}

static void
help_options(const struct term *t, char letter, const char *letters)
{
	for (size_t i = 0; i < arg_count; i++) {
		const struct arg *a = &arg_table[i];
		char left[48];

		if (letter != '\0' ? a->letter != letter
				   : a->letter == '*' || strchr(letters, a->letter) == NULL)
			continue;
		snprintf(left, sizeof left, "%s%s%s", a->name, a->value != NULL ? " " : "",
		    a->value != NULL ? a->value : "");
		fprintf(t->f, "  %-20s ", left);
		term_wrap(t, a->text, 23);
	}
}

static void
help_program(const struct term *t)
{
	fputs("comfymon - ComfyUI made visible in Datadog\n\nusage: comfymon VERB [options]\n\n",
	    t->f);
	for (size_t i = 0; i < verb_count; i++) {
		const struct verb *v = &verb_table[i];
		char left[48];

		snprintf(
		    left, sizeof left, "%s %s", v->name, v->argument != NULL ? v->argument : "");
		fprintf(t->f, "  %-15s ", left);
		term_wrap(t, v->text, 18);
	}
	fputs("\nmore of a verb: comfymon help VERB; which version: comfymon --version\n", t->f);
	fputs("\noptions of every verb\n", t->f);
	help_options(t, '*', "");
	fputs("\nexit codes\n", t->f);
	for (size_t i = 0; i < exit_count; i++) {
		fprintf(t->f, "  %d  ", exit_table[i].code);
		term_wrap(t, exit_table[i].text, 5);
	}
}

void
args_help(const struct cli *c, FILE *f, const struct verb *v)
{
	struct term t = term_of(c, f);

	if (t.width == 0 || t.width > 100)
		t.width = 80;
	if (v == NULL) {
		help_program(&t);
		return;
	}
	bool tail = v->argument != NULL && v->argument[0] == '-'; /* "-- COMMAND" comes last */

	fprintf(f, "usage: comfymon %s", v->name);
	if (v->argument != NULL && !tail)
		fprintf(f, " %s", v->argument);
	fprintf(f, " [options]%s%s\n\n", tail ? " " : "", tail ? v->argument : "");
	term_wrap(&t, v->text, 0);
	fputc('\n', f);
	term_wrap(&t, v->more, 0);
	if (v->options[0] != '\0')
		fputs("\noptions\n", f);
	help_options(&t, '\0', v->options);
	fputs("\noptions of every verb\n", f);
	help_options(&t, '*', "");
}

int
verb_help(struct cli *c)
{
	const struct verb *v = c->argument != NULL ? args_verb(c->argument) : NULL;

	if (c->argument != NULL && v == NULL) {
		fprintf(stderr, "comfymon: unknown verb: %s (see comfymon help)\n", c->argument);
		return CLI_USAGE;
	}
	if (c->man)
		print_page(stdout);
	else
		args_help(c, stdout, v);
	return CLI_OK;
}
