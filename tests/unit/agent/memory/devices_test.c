/*
 * devices_test.c - the devices of both makers: NVIDIA's through a library of our
 * own (tests/support/fake_nvml.c, beside this program), AMD's through a folder.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/memory/gpu.h"
#include "tests/support/fake_nvml.h"
#include "tests/t.h"

#define GIB (1ull << 30)

static struct gpus gpus;
static char beside[400];

/* The library of that name beside this program. */
static const char *
library(const char *name)
{
	static char path[500];
	char self[400];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	self[n > 0 ? n : 0] = '\0';
	if (strrchr(self, '/') != NULL)
		*strrchr(self, '/') = '\0';
	snprintf(beside, sizeof beside, "%s", self);
	snprintf(path, sizeof path, "%s/fake_nvml_%s.so", beside, name);
	return path;
}

struct opened {
	void *handle;
	struct fake_nvml *fake;
	struct nvml *nvml;
	enum err result;
	char why[120];
};

static struct opened
open_fake(const char *name, unsigned devices)
{
	struct opened o = { .handle = dlopen(library(name), RTLD_NOW) };

	CHECK(o.handle != NULL);
	if (o.handle == NULL)
		exit(1);
	o.fake = dlsym(o.handle, "fake_nvml");
	o.fake->gpus = devices;
	o.fake->lost = -1;
	o.fake->init_result = o.fake->count_result = o.fake->processes_result = 0;
	o.fake->holders = 1;
	o.fake->pid = 4711;
	o.fake->held = GIB;
	return o;
}

static void
start(struct opened *o, const char *name)
{
	o->result = nvml_open(library(name), &o->nvml, o->why);
}

static void
end(struct opened *o)
{
	nvml_close(o->nvml);
	dlclose(o->handle);
}

static bool
read_all(struct nvml *n)
{
	memset(&gpus, 0, sizeof gpus);
	return nvml_read(n, &gpus);
}

TEST(a_host_without_the_library_has_no_devices)
{
	struct nvml *n = NULL;
	char why[120];

	CHECK_EQ(nvml_open("/nowhere/libnvidia-ml.so.1", &n, why), E_NOTFOUND);
	CHECK(n == NULL);
	CHECK(strstr(why, "/nowhere/libnvidia-ml.so.1") != NULL);
}

TEST(reads_eight_devices_and_who_holds_them)
{
	struct opened o = open_fake("fake", 8);

	start(&o, "fake");
	CHECK_EQ(o.result, E_OK);
	CHECK(read_all(o.nvml));
	CHECK_EQ(gpus.count, 8);
	for (unsigned i = 0; i < 8; i++) {
		const struct gpu *g = &gpus.of[i];

		CHECK(g->answers);
		CHECK_EQ(g->used_bytes, (i + 1) * GIB); /* without what the driver keeps */
		CHECK_EQ(g->total_bytes, 80 * GIB);
		CHECK_EQ(g->utilisation, 50 + i);
		CHECK_EQ(g->celsius, 60 + i);
		CHECK_EQ(g->milliwatts, 300500 + i);
		CHECK(g->holders_known);
		CHECK_EQ(g->holder_count, 1); /* it computes and draws: one holder */
		CHECK_EQ(g->holders[0].pid, 4711);
		CHECK_EQ(g->holders[0].bytes, GIB);
	}
	CHECK_STR(gpus.of[3].name, "Fake GPU 3");
	CHECK_STR(gpus.of[3].id, "GPU-fa4e0000-0000-4000-8000-000000000003");
	CHECK_STR(gpus.problem, "");
	end(&o);
}

TEST(a_device_that_is_lost_keeps_its_place_and_the_others_answer)
{
	struct opened o = open_fake("fake", 3);

	start(&o, "fake");
	CHECK_EQ(o.result, E_OK);
	CHECK(read_all(o.nvml));
	o.fake->lost = 1;
	CHECK(!read_all(o.nvml)); /* the driver wants to be opened anew */
	CHECK_EQ(gpus.count, 3);
	CHECK(gpus.of[0].answers && !gpus.of[1].answers && gpus.of[2].answers);
	CHECK_EQ(gpus.of[1].used_bytes, 0);
	CHECK(strstr(gpus.problem, "GPU is lost") != NULL);
	nvml_close(o.nvml);
	start(&o, "fake"); /* also when it is lost from the start */
	CHECK_EQ(o.result, E_OK);
	CHECK(!read_all(o.nvml));
	CHECK_EQ(gpus.count, 3);
	CHECK(!gpus.of[1].answers && gpus.of[2].answers);
	o.fake->lost = -1;
	nvml_close(o.nvml);
	start(&o, "fake");
	CHECK(read_all(o.nvml));
	CHECK(gpus.of[1].answers);
	CHECK_EQ(o.fake->inits, o.fake->shutdowns + 1);
	end(&o);
}

TEST(an_old_library_and_a_bare_one_tell_less)
{
	struct opened o = open_fake("old", 2);

	start(&o, "old");
	CHECK_EQ(o.result, E_OK);
	CHECK(read_all(o.nvml));
	CHECK_EQ(gpus.count, 2);
	CHECK_EQ(gpus.of[1].used_bytes, 2 * GIB + GIB / 2);
	CHECK_EQ(gpus.of[1].holder_count, 1);
	CHECK_EQ(gpus.of[1].holders[0].pid, 4711);
	CHECK_EQ(gpus.of[1].holders[0].bytes, GIB);
	end(&o);

	o = open_fake("bare", 2);
	start(&o, "bare");
	CHECK_EQ(o.result, E_OK);
	CHECK(read_all(o.nvml));
	CHECK(gpus.of[1].answers);
	CHECK(!gpus.of[1].holders_known);
	CHECK_STR(gpus.of[1].name, "");
	CHECK_EQ(gpus.of[1].celsius, 0);
	end(&o);
}

TEST(a_library_that_lacks_what_is_needed_is_refused)
{
	struct opened o = open_fake("broken", 2);

	start(&o, "broken");
	CHECK_EQ(o.result, E_INVAL);
	CHECK_STR(o.why, "NVML: functions are missing");
	dlclose(o.handle);
}

TEST(a_driver_that_does_not_start_says_why)
{
	struct opened o = open_fake("fake", 2);

	o.fake->init_result = 9;
	start(&o, "fake");
	CHECK_EQ(o.result, E_IO);
	CHECK(strstr(o.why, "(9)") != NULL);
	o.fake->init_result = 0;
	o.fake->count_result = 999;
	start(&o, "fake");
	CHECK_EQ(o.result, E_IO);
	CHECK(strstr(o.why, "device count") != NULL);
	o.fake->count_result = 0;
	start(&o, "fake");
	CHECK_EQ(o.result, E_OK);
	end(&o);
}

TEST(who_holds_a_device_may_be_unknown)
{
	struct opened o = open_fake("fake", 1);

	start(&o, "fake");
	o.fake->held = UINT64_MAX; /* the driver does not tell */
	CHECK(read_all(o.nvml));
	CHECK(!gpus.of[0].holders_known);
	CHECK_EQ(gpus.of[0].holder_count, 0);
	o.fake->held = GIB;
	o.fake->holders = GPU_HOLDERS + 1; /* more than there is room for */
	CHECK(read_all(o.nvml));
	CHECK(!gpus.of[0].holders_known);
	o.fake->holders = GPU_HOLDERS;
	CHECK(read_all(o.nvml));
	CHECK(gpus.of[0].holders_known);
	CHECK_EQ(gpus.of[0].holder_count, GPU_HOLDERS);
	o.fake->processes_result = 4; /* no permission */
	CHECK(read_all(o.nvml));
	CHECK(gpus.of[0].answers);
	CHECK(!gpus.of[0].holders_known);
	end(&o);
}

TEST(more_devices_than_there_are_places_are_left_out)
{
	struct opened o = open_fake("fake", 30);

	start(&o, "fake");
	CHECK(read_all(o.nvml));
	CHECK_EQ(gpus.count, MEMORY_GPUS);
	end(&o);
}

/* ---- AMD ----------------------------------------------------------------------- */

static char sys_dir[64];

static void
put(const char *name, const char *text)
{
	char path[300];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", sys_dir, name);
	for (char *p = path + strlen(sys_dir) + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)mkdir(path, 0700);
		*p = '/';
	}
	f = fopen(path, "w");
	CHECK(f != NULL);
	if (f == NULL)
		return;
	fputs(text, f);
	fclose(f);
}

TEST(reads_amd_devices_in_the_order_of_their_numbers)
{
	put("class/drm/card10/device/mem_info_vram_total", "17163091968\n");
	put("class/drm/card10/device/mem_info_vram_used", "1000000\n");
	put("class/drm/card2/device/mem_info_vram_total", "8589934592\n");
	put("class/drm/card2/device/mem_info_vram_used", "4294967296\n");
	put("class/drm/card2/device/gpu_busy_percent", "73\n");
	put("class/drm/card2/device/product_name", "Radeon\n");
	put("class/drm/card2/device/hwmon/hwmon3/temp1_input", "61000\n");
	put("class/drm/card2/device/hwmon/hwmon3/power1_average", "210000000\n");
	put("class/drm/card2-DP-1/device/mem_info_vram_total", "1\n"); /* a connector */
	put("class/drm/card3/device/vendor", "0x8086\n");              /* another maker's */
	put("class/drm/card4/device/mem_info_vram_total", "many\n");
	put("class/drm/card4/device/mem_info_vram_used", "1\n");
	put("class/drm/version", "x\n");
	memset(&gpus, 0, sizeof gpus);
	amd_read(sys_dir, &gpus);
	CHECK_EQ(gpus.count, 2);
	CHECK_STR(gpus.of[0].name, "Radeon");
	CHECK_EQ(gpus.of[0].total_bytes, 8589934592);
	CHECK_EQ(gpus.of[0].used_bytes, 4294967296);
	CHECK_EQ(gpus.of[0].utilisation, 73);
	CHECK_EQ(gpus.of[0].celsius, 61);
	CHECK_EQ(gpus.of[0].milliwatts, 210000);
	CHECK(!gpus.of[0].holders_known);
	CHECK_STR(gpus.of[1].name, "AMD card10");
	CHECK_EQ(gpus.of[1].used_bytes, 1000000);
	CHECK_EQ(gpus.of[1].utilisation, 0);
}

TEST(a_host_without_the_folder_has_none)
{
	memset(&gpus, 0, sizeof gpus);
	amd_read("/nowhere", &gpus);
	CHECK_EQ(gpus.count, 0);
}

int
main(void)
{
	char command[100];

	snprintf(sys_dir, sizeof sys_dir, "/tmp/devices_test.XXXXXX");
	if (mkdtemp(sys_dir) == NULL)
		return 1;
	RUN(a_host_without_the_library_has_no_devices);
	RUN(reads_eight_devices_and_who_holds_them);
	RUN(a_device_that_is_lost_keeps_its_place_and_the_others_answer);
	RUN(an_old_library_and_a_bare_one_tell_less);
	RUN(a_library_that_lacks_what_is_needed_is_refused);
	RUN(a_driver_that_does_not_start_says_why);
	RUN(who_holds_a_device_may_be_unknown);
	RUN(more_devices_than_there_are_places_are_left_out);
	RUN(reads_amd_devices_in_the_order_of_their_numbers);
	RUN(a_host_without_the_folder_has_none);
	snprintf(command, sizeof command, "rm -r %s", sys_dir);
	if (system(command) != 0)
		return 1;
	return t_done();
}
