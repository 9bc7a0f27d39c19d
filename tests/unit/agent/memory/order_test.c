/*
 * order_test.c - torch's index of a device against the driver's.
 */
#include "agent/memory/order.h"

#include "tests/unit/agent/memory/saw.h"

#define A "GPU-aaaa0000-0000-4000-8000-000000000000"
#define B "GPU-bbbb0000-0000-4000-8000-000000000001"
#define C "GPU-cccc0000-0000-4000-8000-000000000002"

static const char ids[MEMORY_GPUS][ORDER_ID_BYTES] = { A, B, C };
static struct gpu_order order;

/* The driver's index, -1 none. */
static int
at(unsigned i)
{
	unsigned d = 99;

	return order_find(&order, i, ids, &d) ? (int)d : -1;
}

static void
visible(const char *value)
{
	order_visible(&order, value);
}

TEST(without_a_word_it_is_the_drivers_order)
{
	memset(&order, 0, sizeof order);
	CHECK_EQ(at(0), 0);
	CHECK_EQ(at(2), 2);
	CHECK_EQ(at(MEMORY_GPUS), -1);
}

TEST(indices_are_taken_in_their_order)
{
	visible("2,0");
	CHECK_EQ(at(0), 2);
	CHECK_EQ(at(1), 0);
	CHECK_EQ(at(2), -1);
	visible(" 1 , 2");
	CHECK_EQ(at(0), 1);
	CHECK_EQ(at(1), 2);
	visible("1");
	CHECK_EQ(at(0), 1);
	CHECK_EQ(at(1), -1);
	visible("99");
	CHECK_EQ(at(0), -1);
}

TEST(uuids_and_how_one_begins_are_found)
{
	visible(C "," A);
	CHECK_EQ(at(0), 2);
	CHECK_EQ(at(1), 0);
	visible("GPU-bbbb,gpu-CCCC0000");
	CHECK_EQ(at(0), 1);
	CHECK_EQ(at(1), 2);
	visible("GPU-dddd,1");
	CHECK_EQ(at(0), -1);
	CHECK_EQ(at(1), 1);
}

TEST(a_part_of_a_card_is_none_that_the_driver_lists)
{
	visible("MIG-aaaa0000-0000-4000-8000-000000000000,1");
	CHECK_EQ(at(0), -1);
	CHECK_EQ(at(1), 1);
	visible("MIG-GPU-aaaa0000-0000-4000-8000-000000000000/1/0");
	CHECK_EQ(at(0), -1);
}

TEST(what_stands_behind_an_entry_that_is_none_is_not_visible)
{
	visible("");
	CHECK_EQ(at(0), -1);
	visible("-1");
	CHECK_EQ(at(0), -1);
	visible("1,-1,0");
	CHECK_EQ(at(0), 1);
	CHECK_EQ(at(1), -1);
	visible("0,none,1");
	CHECK_EQ(at(0), 0);
	CHECK_EQ(at(1), -1);
	visible(
	    "0,xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx,1");
	CHECK_EQ(order.count, 1);
	visible("0,1,2,0,1,2,0,1,2,0,1,2,0,1,2,0,1,2,0,1,2"); /* more than have a place */
	CHECK_EQ(order.count, MEMORY_GPUS);
}

TEST(an_environment_is_searched_for_the_variable)
{
	static const char with[] =
	    "PATH=/bin\0XCUDA_VISIBLE_DEVICES=7\0CUDA_VISIBLE_DEVICES=2\0Z=1";
	static const char without[] = "PATH=/bin\0CUDA_VISIBLE_DEVICE=2";
	static const char cut[] = "PATH=/bin\0CUDA_VISIBLE_DEVICES=1"; /* without its NUL */

	order_environ(&order, with, sizeof with);
	CHECK(order.given);
	CHECK_EQ(at(0), 2);
	CHECK_EQ(at(1), -1);
	order_environ(&order, without, sizeof without);
	CHECK(!order.given);
	order_environ(&order, cut, sizeof cut - 1);
	CHECK_EQ(at(0), 1);
	order_environ(&order, NULL, 0);
	CHECK(!order.given);
}

static void
told(void *ctx, const struct span_seen *s)
{
	order_told(ctx, s);
}

TEST(what_torch_says_is_kept_until_it_says_otherwise)
{
	memset(&order, 0, sizeof order);
	SAW(told, &order, SPAN_WORKFLOW, 7,
	    .tags = { { "memory.gpu.0.uuid", "cccc0000-0000-4000-8000-000000000002", 0 },
		{ "memory.gpu.1.uuid", A, 0 }, { "memory.gpu.16.uuid", B, 0 },
		{ "memory.gpu.x.uuid", B, 0 }, { "memory.gpu..uuid", B, 0 },
		{ "memory.gpu.2.uuid", NULL, 5 }, { "memory.gpu.2.peak_bytes", NULL, 5 } });
	CHECK(order.given);
	CHECK_EQ(order.count, 2);
	CHECK_EQ(at(0), 2);
	CHECK_EQ(at(1), 0);
	CHECK_EQ(at(2), -1);
	SAW(told, &order, SPAN_WORKFLOW, 7, .tags = { { "prompt.id", "p", 0 } });
	CHECK_EQ(at(0), 2);
}

int
main(void)
{
	RUN(without_a_word_it_is_the_drivers_order);
	RUN(indices_are_taken_in_their_order);
	RUN(uuids_and_how_one_begins_are_found);
	RUN(a_part_of_a_card_is_none_that_the_driver_lists);
	RUN(what_stands_behind_an_entry_that_is_none_is_not_visible);
	RUN(an_environment_is_searched_for_the_variable);
	RUN(what_torch_says_is_kept_until_it_says_otherwise);
	return t_done();
}
