/*
 * exam_host.c - stations of the doctor outside of the agent: the node in a
 * ComfyUI, the extension for its Python, switches, the clock.
 */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <unistd.h>

#include "agent/cli/exam.h"

#define PATH_BYTES 4096

/* Where ComfyUI-Manager puts what it disables, in its two ways; path is left at it. */
static bool
is_switched_off(const char *comfyui, char path[PATH_BYTES])
{
	static const char *const places[] = { "comfymon.disabled", ".disabled/comfymon" };
	struct stat st;

	snprintf(path, PATH_BYTES, "%s/custom_nodes/comfymon", comfyui);
	if (lstat(path, &st) == 0)
		return false;
	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		snprintf(path, PATH_BYTES, "%s/custom_nodes/%s", comfyui, places[i]);
		if (lstat(path, &st) == 0)
			return true;
	}
	return false;
}

void
examine_node(struct exam *x)
{
	char path[PATH_BYTES], link[PATH_BYTES];
	struct stat st;

	if (x->cli->comfyui == NULL) {
		station(x, NOT_SEEN, "node", "", "--comfyui DIR says which ComfyUI to look at");
		return;
	}
	snprintf(path, sizeof path, "%s/custom_nodes", x->cli->comfyui);
	if (access(path, F_OK) != 0) {
		station(x, BROKEN, "node", "--comfyui takes the folder that has custom_nodes in it",
		    "%s is not there", path);
		return;
	}
	if (is_switched_off(x->cli->comfyui, path)) {
		station(x, BROKEN, "node", "enable it in ComfyUI-Manager, then restart ComfyUI",
		    "switched off: it is in %s", path);
		return;
	}
	snprintf(path, sizeof path, "%s/custom_nodes/comfymon", x->cli->comfyui);
	if (lstat(path, &st) != 0) {
		station(x, BROKEN, "node", "comfymon install --comfyui DIR, then restart ComfyUI",
		    "not installed: %s is not there", path);
		return;
	}

	ssize_t n = S_ISLNK(st.st_mode) ? readlink(path, link, sizeof link - 1) : 0;

	link[n > 0 ? n : 0] = '\0';
	snprintf(
	    path, sizeof path, "%s/custom_nodes/comfymon/prestartup_script.py", x->cli->comfyui);
	if (access(path, R_OK) != 0)
		station(x, BROKEN, "node",
		    "build the node again, or install it again: comfymon install --comfyui DIR",
		    "%s cannot be read%s%s", path, n > 0 ? "; it is a link to " : "", link);
	else
		station(x, FINE, "node", "", "installed in %s%s%s", x->cli->comfyui,
		    n > 0 ? ", a link to " : "", link);
}

/* "3.9, 3.11" of the extensions in a folder; true when `minor` is among them. */
static bool
list_extensions(const char *dir, int minor, char *list, size_t cap)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	bool there[100] = { false };
	size_t n = 0;
	int k;

	list[0] = '\0';
	while (d != NULL && (e = readdir(d)) != NULL)
		if (sscanf(e->d_name, "_comfymon.cpython-3%2d", &k) == 1 && k >= 0)
			there[k] = true;
	for (k = 0; k < 100; k++)
		if (there[k] && n < cap)
			n += (size_t)snprintf(list + n, cap - n, "%s3.%d", n > 0 ? ", " : "", k);
	if (d != NULL)
		closedir(d);
	return minor >= 0 && minor < 100 && there[minor];
}

/* Minor of the virtual environment's Python; -1 when there is none. */
static int
minor_of_venv(const char *comfyui)
{
	static const char *const names[] = { "venv", ".venv" };
	char path[PATH_BYTES], text[200];
	int minor = -1;

	for (size_t i = 0; i < 2 && minor < 0; i++) {
		snprintf(path, sizeof path, "%s/%s/pyvenv.cfg", comfyui, names[i]);

		FILE *f = fopen(path, "re");

		while (f != NULL && minor < 0 && fgets(text, sizeof text, f) != NULL)
			if (sscanf(text, "version = 3.%d", &minor) != 1 &&
			    sscanf(text, "version_info = 3.%d", &minor) != 1)
				minor = -1;
		if (f != NULL)
			fclose(f);
	}
	return minor;
}

/* A ComfyUI that speaks to us has loaded the extension, whatever else we know. */
static bool
python_of_a_living_probe(struct exam *x)
{
	size_t i;
	json_t *p;

	json_array_foreach(json_object_get(x->status, "probes"), i, p)
	{
		json_t *attrs = json_object_get(p, "attrs");
		const char *v = json_string_value(json_object_get(attrs, "language_version"));

		if (!json_is_true(json_object_get(p, "alive")) || v == NULL)
			continue;
		station(x, FINE, "extension", "", "loaded by Python %s, pid %" JSON_INTEGER_FORMAT,
		    v, json_integer_value(json_object_get(p, "pid")));
		return true;
	}
	return false;
}

void
examine_python(struct exam *x)
{
	char dir[PATH_BYTES], list[200];

	if (python_of_a_living_probe(x) || x->cli->comfyui == NULL)
		return;
	snprintf(dir, sizeof dir, "%s/custom_nodes/comfymon", x->cli->comfyui);
	if (access(dir, R_OK) != 0)
		return; /* said already */

	int minor = minor_of_venv(x->cli->comfyui);
	bool found = list_extensions(dir, minor, list, sizeof list);

	if (list[0] == '\0')
		station(x, BROKEN, "extension", "build the node with Python's headers installed",
		    "none in %s", dir);
	else if (minor < 0)
		station(x, NOT_SEEN, "extension", "",
		    "there for Python %s; which one runs ComfyUI is not known", list);
	else if (!found)
		station(x, BROKEN, "extension",
		    "build the node with this Python (COMFYMON_PYTHONS=/path/to/python3)",
		    "ComfyUI's Python is 3.%d, the node has it for %s", minor, list);
	else
		station(x, FINE, "extension", "", "there for ComfyUI's Python 3.%d", minor);
}

void
examine_switches(struct exam *x)
{
	static const char *const names[] = { "DD_TRACE_ENABLED", "COMFYMON_ENABLED" };
	static const char *const offs[] = { "0", "false", "no", "off" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *v = getenv(names[i]);

		for (size_t k = 0; v != NULL && k < sizeof offs / sizeof offs[0]; k++)
			if (strcasecmp(v, offs[k]) == 0)
				station(x, WORTH_KNOWING, "switch", "",
				    "%s=%s here: a ComfyUI started like this loads nothing",
				    names[i], v);
	}
}

/* Datadog refuses or misplaces spans of a wrong day; the kernel knows whether anybody sets its
 * clock. */
void
examine_clock(struct exam *x)
{
	struct timex t = { .modes = 0 };
	int state = adjtimex(&t);

	if (state < 0)
		station(x, NOT_SEEN, "clock", "", "the kernel does not say");
	else if (state == TIME_ERROR || (t.status & STA_UNSYNC) != 0)
		station(x, WORTH_KNOWING, "clock", "",
		    "nothing keeps it in step (no time synchronisation): spans may be misplaced");
	else
		station(x, FINE, "clock", "", "kept in step, within %.0f ms",
		    (double)t.esterror / 1000);
}
