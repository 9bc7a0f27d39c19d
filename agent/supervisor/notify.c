/*
 * notify.c - see notify.h.
 */
#include "agent/supervisor/notify.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum err
notify_say(const char *to, const char *text)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = strlen(to);
	enum err e = E_OK;
	int fd;

	if (n == 0)
		return E_OK;
	if ((to[0] != '/' && to[0] != '@') || n >= sizeof a.sun_path)
		return E_INVAL;
	memcpy(a.sun_path, to, n);
	if (to[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_from_errno(errno);
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&a,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		e = err_from_errno(errno);
	close(fd);
	return e;
}
