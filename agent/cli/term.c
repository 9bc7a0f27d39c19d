/*
 * term.c - colour, width and units for people.  Plain when piped or told.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/cli/cli.h"

struct term
term_of(const struct cli *c, FILE *f)
{
	struct term t = { false, 0 };
	struct winsize ws;
	bool terminal = isatty(fileno(f)) == 1;

	if (terminal && ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		t.width = ws.ws_col;
	if (terminal && t.width == 0)
		t.width = 80;
	t.color = strcmp(c->color, "always") == 0 || (terminal && strcmp(c->color, "auto") == 0);
	return t;
}

const char *
term_style(const struct term *t, const char *name)
{
	static const struct {
		const char *name, *code;
	} styles[] = {
		{ "off", "\033[0m" },
		{ "bold", "\033[1m" },
		{ "dim", "\033[2m" },
		{ "red", "\033[31m" },
		{ "green", "\033[32m" },
		{ "yellow", "\033[33m" },
		{ "cyan", "\033[36m" },
	};

	for (size_t i = 0; t->color && i < sizeof styles / sizeof styles[0]; i++)
		if (strcmp(styles[i].name, name) == 0)
			return styles[i].code;
	return "";
}

const char *
term_duration(double ns, char *buf, size_t cap)
{
	static const char *const units[] = { "ns", "µs", "ms", "s" };
	int u = 0;

	if (ns >= 120e9) {
		snprintf(buf, cap, "%.0fm%02.0fs", floor(ns / 60e9), floor(fmod(ns / 1e9, 60)));
		return buf;
	}
	while (u < 3 && ns >= 1000) {
		ns /= 1000;
		u++;
	}
	snprintf(buf, cap,
	    ns < 10 && u > 0    ? "%.2f %s"
	    : ns < 100 && u > 0 ? "%.1f %s"
				: "%.0f %s",
	    ns, units[u]);
	return buf;
}

const char *
term_ago(double s, char *buf, size_t cap)
{
	if (s < 60)
		snprintf(buf, cap, "%.0f s", s);
	else if (s < 3600)
		snprintf(buf, cap, "%.0f min", s / 60);
	else if (s < 48 * 3600)
		snprintf(buf, cap, "%.1f h", s / 3600);
	else
		snprintf(buf, cap, "%.1f days", s / 86400);
	return buf;
}
