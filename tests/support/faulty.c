/*
 * faulty.c - a program that is wrong in the way that its argument says, for the
 * test of sanitizer.py.  Its status is 0 where the sanitizer lets it be.
 */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *
write_shared(void *arg)
{
	shared = *(int *)arg;
	return NULL;
}

static void
race(int n)
{
	pthread_t t;

	if (pthread_create(&t, NULL, write_shared, &n) == 0) {
		shared = n + 1;
		pthread_join(t, NULL);
	}
}

int
main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	char *volatile p = malloc(8);

	if (p == NULL)
		return 1;
	if (strcmp(what, "race") == 0)
		race(argc);
	if (strcmp(what, "overflow") == 0)
		p[7 + argc] = 1;
	if (strcmp(what, "undefined") == 0)
		shared = INT_MAX - 1 + argc;
	if (strcmp(what, "leak") != 0)
		free(p);
	p = NULL;
	return 0;
}
