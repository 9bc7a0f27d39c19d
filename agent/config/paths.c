/*
 * paths.c - default directories.  The run directory is chosen exactly as the
 * probe does (probe/core), so that both meet without configuration.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/config/paths.h"

static const char *
absolute(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] == '/' ? v : NULL;
}

/* Ours alone, or can be made: what the probe asks too, so that both choose alike. */
static bool
takes_a_run_dir(const char *parent, const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return access(parent, W_OK | X_OK) == 0;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0;
}

void
paths_run_dir(char *buf, size_t cap)
{
	const char *xdg = absolute("XDG_RUNTIME_DIR");

	snprintf(buf, cap, "/dev/shm/comfymon-%u", (unsigned)geteuid());
	if (xdg != NULL && !takes_a_run_dir("/dev/shm", buf))
		snprintf(buf, cap, "%s/comfymon", xdg);
}

void
paths_data_dir(char *buf, size_t cap)
{
	const char *xdg = absolute("XDG_STATE_HOME"), *home = absolute("HOME");

	if (xdg != NULL)
		snprintf(buf, cap, "%s/comfymon", xdg);
	else if (geteuid() == 0)
		snprintf(buf, cap, "/var/lib/comfymon");
	else if (home != NULL && access(home, W_OK | X_OK) == 0)
		snprintf(buf, cap, "%s/.local/state/comfymon", home);
	else
		snprintf(buf, cap, "/var/tmp/comfymon-%u", (unsigned)geteuid());
}

void
paths_ca_file(char *buf, size_t cap)
{
	static const char *const places[] = {
		"/etc/ssl/certs/ca-certificates.crt", /* Debian, Ubuntu, Alpine, Arch */
		"/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, RHEL, Amazon */
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* ... in a slim image */
		"/etc/ssl/ca-bundle.pem",                            /* SUSE */
		"/etc/ssl/cert.pem",
	};

	buf[0] = '\0';
	for (size_t i = 0; i < sizeof places / sizeof places[0] && buf[0] == '\0'; i++)
		if (access(places[i], R_OK) == 0)
			snprintf(buf, cap, "%s", places[i]);
}
