/* comfy.c - the adapter as the module sees it: its parts, in order.  See comfy.h */
#include "probe/python/comfy.h"

#include "probe/python/hook.h"

static const struct comfy_part *const parts[] = { &comfy_part_jobs, &comfy_part_models,
	&comfy_part_web };

static int
setup(PyObject *module)
{
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i]->setup != NULL && parts[i]->setup(module) < 0)
			return -1;
	return 0;
}

static void
restart(void)
{
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (parts[i]->restart != NULL)
			parts[i]->restart();
}

const struct hook_adapter comfy_adapter = { .setup = setup, .restart = restart };
