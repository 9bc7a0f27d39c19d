/*
 * amd.c - AMD's devices, from what the amdgpu driver says in sysfs.  Small
 * files, opened anew each time: a device may go away.
 *
 * Source: the kernel's gpu/amdgpu/driver-misc.rst and hwmon/sysfs-interface.rst.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/memory/gpu.h"
#include "agent/memory/text.h"

static bool
read_file(const char *dir, const char *name, char *text, size_t cap)
{
	char path[700];
	ssize_t n = -1;
	int fd;

	if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path)
		return false;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, cap - 1);
		close(fd);
	}
	if (n <= 0)
		return false;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return true;
}

static bool
read_number(const char *dir, const char *name, uint64_t *v)
{
	char text[64];

	return read_file(dir, name, text, sizeof text) && text_value(text, v);
}

/* Its sensors are in the only folder below hwmon. */
static void
read_sensors(const char *device, struct gpu *g)
{
	char path[600];
	struct dirent *entry;
	uint64_t v;
	DIR *dir;

	if ((size_t)snprintf(path, sizeof path, "%s/hwmon", device) >= sizeof path ||
	    (dir = opendir(path)) == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		char folder[900];

		if (strncmp(entry->d_name, "hwmon", 5) != 0 ||
		    (size_t)snprintf(folder, sizeof folder, "%s/%s", path, entry->d_name) >=
			sizeof folder)
			continue;
		if (read_number(folder, "temp1_input", &v) && v < 1000000)
			g->celsius = (uint32_t)(v / 1000); /* from 1/1000 degree */
		if (read_number(folder, "power1_average", &v) && v / 1000 <= UINT32_MAX)
			g->milliwatts = (uint32_t)(v / 1000); /* from microwatts */
		break;
	}
	closedir(dir);
}

static void
read_card(const char *sys_dir, unsigned long card, struct gpus *out)
{
	struct gpu *g = &out->of[out->count];
	char device[512], link[512];
	uint64_t busy;
	ssize_t n;

	snprintf(device, sizeof device, "%.400s/class/drm/card%lu/device", sys_dir, card);
	memset(g, 0, sizeof *g);
	if (!read_number(device, "mem_info_vram_total", &g->total_bytes) ||
	    !read_number(device, "mem_info_vram_used", &g->used_bytes))
		return; /* another maker's, or an older driver */
	g->answers = true;
	if (!read_file(device, "product_name", g->name, sizeof g->name) || g->name[0] == '\0')
		snprintf(g->name, sizeof g->name, "AMD card%lu", card);
	n = readlink(device, link, sizeof link - 1); /* ends in its place on the bus */
	if (n > 0) {
		link[n] = '\0';
		snprintf(g->id, sizeof g->id, "%.63s",
		    strrchr(link, '/') != NULL ? strrchr(link, '/') + 1 : link);
	}
	if (read_number(device, "gpu_busy_percent", &busy) && busy <= 100)
		g->utilisation = (uint32_t)busy;
	read_sensors(device, g);
	out->count++;
}

static int
by_number(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

void
amd_read(const char *sys_dir, struct gpus *out)
{
	unsigned long cards[MEMORY_GPUS];
	struct dirent *entry;
	char path[512];
	size_t n = 0;
	DIR *dir;

	snprintf(path, sizeof path, "%.400s/class/drm", sys_dir);
	if ((dir = opendir(path)) == NULL)
		return;
	while (n < MEMORY_GPUS && (entry = readdir(dir)) != NULL) {
		char *end;

		if (strncmp(entry->d_name, "card", 4) != 0 || entry->d_name[4] < '0' ||
		    entry->d_name[4] > '9')
			continue;
		cards[n] = strtoul(entry->d_name + 4, &end, 10);
		n += *end == '\0'; /* else a connector: card0-DP-1 */
	}
	closedir(dir);
	qsort(cards, n, sizeof cards[0], by_number);
	for (size_t i = 0; i < n && out->count < MEMORY_GPUS; i++)
		read_card(sys_dir, cards[i], out);
}
