/* own.c - see own.h.  fstat and close only, so a child of fork may call. */
#include "probe/core/own.h"

#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

int
own_set(struct own_fd *o, int fd)
{
	struct stat st = { .st_ino = 0 };
	int rv = fd < 0 ? 0 : fstat(fd, &st);

	o->device = st.st_dev;
	o->inode = st.st_ino;
	atomic_store(&o->fd, fd);
	return rv;
}

static int
if_ours(const struct own_fd *o, int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == o->inode && st.st_dev == o->device
		   ? fd
		   : -1;
}

int
own_get(const struct own_fd *o)
{
	return if_ours(o, atomic_load(&o->fd));
}

void
own_close(struct own_fd *o)
{
	int fd = if_ours(o, atomic_exchange(&o->fd, -1));

	if (fd >= 0)
		close(fd);
}
