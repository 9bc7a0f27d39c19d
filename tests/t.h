/*
 * t.h - the whole test harness.  A test program is a list of functions whose
 * names are sentences:
 *
 *	TEST(refuses_a_short_frame) { CHECK(frame_get(p, 3) < 0); }
 *	int main(void) { RUN(refuses_a_short_frame); return t_done(); }
 *
 * A failed check prints file, line and expression; the function goes on unless
 * REQUIRE was used; the program's exit code is 1 when anything failed.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int t_failed_checks, t_run, t_failed;

#define TEST(name) static void name(void)

#define CHECK(expr)                                                                       \
	do {                                                                              \
		if (!(expr)) {                                                            \
			t_failed_checks++;                                                \
			fprintf(stderr, "%s:%d: CHECK(%s)\n", __FILE__, __LINE__, #expr); \
		}                                                                         \
	} while (0)

#define REQUIRE(expr)                                                                       \
	do {                                                                                \
		if (!(expr)) {                                                              \
			t_failed_checks++;                                                  \
			fprintf(stderr, "%s:%d: REQUIRE(%s)\n", __FILE__, __LINE__, #expr); \
			return;                                                             \
		}                                                                           \
	} while (0)

#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long t_a = (long long)(a), t_b = (long long)(b);                              \
		if (t_a != t_b) {                                                                  \
			t_failed_checks++;                                                         \
			fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", __FILE__, __LINE__, #a, \
			    t_a, #b, t_b);                                                         \
		}                                                                                  \
	} while (0)

#define CHECK_STR(a, b)                                                                          \
	do {                                                                                     \
		const char *t_a = (a), *t_b = (b);                                               \
		if (strcmp(t_a, t_b) != 0) {                                                     \
			t_failed_checks++;                                                       \
			fprintf(stderr, "%s:%d: %s is \"%s\", not \"%s\"\n", __FILE__, __LINE__, \
			    #a, t_a, t_b);                                                       \
		}                                                                                \
	} while (0)

#define RUN(name)                                                                      \
	do {                                                                           \
		int t_before = t_failed_checks;                                        \
		name();                                                                \
		t_run++;                                                               \
		if (t_failed_checks != t_before)                                       \
			t_failed++;                                                    \
		printf("%s %s\n", t_failed_checks == t_before ? "ok" : "FAIL", #name); \
		fflush(stdout);                                                        \
	} while (0)

static inline int
t_done(void)
{
	printf("%d run, %d failed\n", t_run, t_failed);
	return t_failed != 0 || t_run == 0;
}
