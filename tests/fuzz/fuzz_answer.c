/*
 * fuzz_answer.c - any bytes as what a ComfyUI answers over HTTP.  rooms: base schema
 *
 * On a socket of this machine, cut in two at a place that the first bytes say.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/ask.h"
#include "schema/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct sockaddr_un at = { .sun_family = AF_UNIX };

static int
listener(void)
{
	static int fd = -1;

	if (fd >= 0)
		return fd;
	snprintf(at.sun_path + 1, sizeof at.sun_path - 1, "fuzz-answer-%d", (int)getpid());
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 1) != 0)
		abort();
	return fd;
}

/* What does not fit waits in the socket; who asks may have gone by then. */
static void
answer(int fd, const uint8_t *data, size_t n)
{
	if (send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && n > 0)
		abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct ask a;
	int status, server = listener(), fd;
	size_t cut;

	if (n < 2)
		return 0;
	cut = wire_get16(data) % (n - 1);
	data += 2;
	n -= 2;
	if (ask_start(&a, (struct sockaddr *)&at, sizeof at, "GET", "/queue", NULL) != E_OK ||
	    (fd = accept(server, NULL, NULL)) < 0)
		abort();
	answer(fd, data, cut);
	if (ask_wait(&a, 0) != 0 && cut < ASK_ANSWER_BYTES - 1)
		abort(); /* it has not ended yet */
	answer(fd, data + cut, n - cut);
	close(fd);
	status = ask_wait(&a, 1000);
	if (status == 0 || status > 999 || a.n >= ASK_ANSWER_BYTES || a.answer[a.n] != '\0')
		abort();
	ask_end(&a);
	return 0;
}
