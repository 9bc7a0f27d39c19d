/*
 * port.c - see port.h.
 */
#include "agent/supervisor/port.h"

#include <stdio.h>
#include <string.h>

#define STATE_LISTEN 0x0a

static bool
listens_in(const char *path, uint16_t port)
{
	FILE *f = fopen(path, "re");
	bool found = false;
	char line[512];

	/* "  0: 0100007F:1FFC 00000000:0000 0A ..." */
	while (f != NULL && !found && fgets(line, sizeof line, f) != NULL) {
		unsigned local, state;

		found =
		    sscanf(line, " %*d: %*[0-9A-F]:%x %*[0-9A-F]:%*x %x", &local, &state) == 2 &&
		    local == port && state == STATE_LISTEN;
	}
	if (f != NULL)
		fclose(f);
	return found;
}

bool
port_listens(pid_t pid, uint16_t port)
{
	static const char *const files[] = { "tcp", "tcp6" };
	char path[64];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "/proc/%d/net/%s", (int)pid, files[i]);
		if (listens_in(path, port))
			return true;
	}
	return false;
}
