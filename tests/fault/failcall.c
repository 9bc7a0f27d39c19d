/*
 * failcall.c - a shim for LD_PRELOAD: the N-th call of one libc function fails.
 *
 *   FAIL_CALL=fdatasync FAIL_AT=3 FAIL_ERRNO=5 [FAIL_TIMES=1] [FAIL_SELF=1] [FAIL_VERB=run]
 * FAIL_LOG=FILE
 *
 * Counted are calls of all threads, with FAIL_SELF only those made by the
 * program itself and not by its libraries; with FAIL_VERB only in programs
 * whose first argument it is, not in those that they start.  FAIL_CALL=threads
 * lets no thread begin while FAIL_AT live.  FILE gets `failed NAME N` for each
 * failure.  Without FAIL_CALL nothing fails.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
/* In a program with a sanitizer, which must know of every block. */
#pragma weak __interceptor_malloc
#pragma weak __interceptor_calloc
#pragma weak __interceptor_realloc
void *__interceptor_malloc(size_t n);
void *__interceptor_calloc(size_t n, size_t size);
void *__interceptor_realloc(void *p, size_t n);
#define BEHIND(name) (__interceptor_##name != NULL ? __interceptor_##name : __libc_##name)

static char name[32], log_path[256];
static unsigned long first, times = 1;
static int error = EIO;
static uintptr_t text_from, text_to; /* of the program itself; 0: everybody counts */
static struct {
	uintptr_t from, to;
} spared[2];                         /* code that always gets memory */
static _Atomic unsigned long *calls; /* of the program and its forks together */
static atomic_bool ready;

static int
program_text(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || (p->p_flags & PF_X) == 0)
			continue;
		text_from = info->dlpi_addr + p->p_vaddr;
		text_to = text_from + p->p_memsz;
	}
	return 1; /* the first is the program */
}

static int
spare(struct dl_phdr_info *info, size_t size, void *arg)
{
	int at = info->dlpi_addr == getauxval(AT_BASE) ? 0 : 1;

	(void)size;
	(void)arg;
	if (at == 1 && strstr(info->dlpi_name, "/libnng.so") == NULL)
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_LOAD || (p->p_flags & PF_X) == 0)
			continue;
		spared[at].from = info->dlpi_addr + p->p_vaddr;
		spared[at].to = spared[at].from + p->p_memsz;
	}
	return 0;
}

static bool
is_spared(uintptr_t from)
{
	for (int i = 0; i < 2; i++)
		if (from >= spared[i].from && from < spared[i].to)
			return true;
	return false;
}

static unsigned long
number(const char *variable, unsigned long otherwise)
{
	const char *s = getenv(variable);

	return s != NULL ? strtoul(s, NULL, 10) : otherwise;
}

__attribute__((constructor)) static void
read_environment(int argc, char **argv)
{
	const char *call = getenv("FAIL_CALL"), *log = getenv("FAIL_LOG");
	const char *verb = getenv("FAIL_VERB");

	if (call == NULL || log == NULL)
		return;
	if (verb != NULL && (argc < 2 || strcmp(argv[1], verb) != 0))
		return;
	snprintf(name, sizeof name, "%s", call);
	snprintf(log_path, sizeof log_path, "%s", log);
	first = number("FAIL_AT", 1);
	times = number("FAIL_TIMES", 1);
	error = (int)number("FAIL_ERRNO", EIO);
	calls = (void *)syscall(SYS_mmap, NULL, sizeof *calls, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (calls == MAP_FAILED)
		return;
	if (number("FAIL_SELF", 0) != 0)
		dl_iterate_phdr(program_text, NULL);
	if (strcmp(name, "malloc") == 0)
		dl_iterate_phdr(spare, NULL);
	atomic_store(&ready, true);
}

static void
say(const char *call, unsigned long n)
{
	char line[64];
	int fd;

	/* By system calls: the functions that we stand for are not called from here. */
	fd = (int)syscall(SYS_open, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd >= 0) {
		int length = snprintf(line, sizeof line, "failed %s %lu\n", call, n);

		(void)!syscall(SYS_write, fd, line, (size_t)length);
		close(fd);
	}
	errno = error;
}

static bool
fails(const char *call, const void *caller)
{
	uintptr_t from = (uintptr_t)caller;
	unsigned long n;

	if (!atomic_load_explicit(&ready, memory_order_acquire) || strcmp(call, name) != 0 ||
	    (text_to != 0 && (from < text_from || from >= text_to)) || is_spared(from))
		return false;
	n = atomic_fetch_add(calls, 1) + 1;
	if (n < first || n >= first + times)
		return false;
	say(call, n);
	return true;
}

/* As a limit does it: no thread beyond so many that live. */
static bool
threads_full(void)
{
	struct stat st;

	if (!atomic_load_explicit(&ready, memory_order_acquire) || strcmp(name, "threads") != 0 ||
	    stat("/proc/self/task", &st) != 0 || st.st_nlink - 2 < first)
		return false;
	say(name, st.st_nlink - 2);
	return true;
}

#define CALLER __builtin_return_address(0)

/* function(params): fails when it is its turn, else the real one. */
#define FAILING(type, function, call, failed, params, args)                                   \
	type function params                                                                  \
	{                                                                                     \
		static __typeof__(&function) real;                                            \
                                                                                              \
		if (real == NULL)                                                             \
			real = (__typeof__(&function))(uintptr_t)dlsym(RTLD_NEXT, #function); \
		return fails(call, CALLER) ? (failed) : real args;                            \
	}

void *
malloc(size_t n)
{
	return fails("malloc", CALLER) ? NULL : BEHIND(malloc)(n);
}

void *
calloc(size_t n, size_t size)
{
	return fails("malloc", CALLER) ? NULL : BEHIND(calloc)(n, size);
}

void *
realloc(void *p, size_t n)
{
	return fails("malloc", CALLER) ? NULL : BEHIND(realloc)(p, n);
}

/* clang-format off */
FAILING(pid_t, fork, "fork", -1, (void), ())
FAILING(int, pipe2, "pipe", -1, (int ends[2], int flags), (ends, flags))
FAILING(ssize_t, read, "read", -1, (int fd, void *p, size_t n), (fd, p, n))
FAILING(ssize_t, write, "write", -1, (int fd, const void *p, size_t n), (fd, p, n))
FAILING(ssize_t, pwrite, "pwrite", -1, (int fd, const void *p, size_t n, off_t at), (fd, p, n, at))
FAILING(ssize_t, pwrite64, "pwrite", -1, (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at))
FAILING(ssize_t, pread, "pread", -1, (int fd, void *p, size_t n, off_t at), (fd, p, n, at))
FAILING(ssize_t, pread64, "pread", -1, (int fd, void *p, size_t n, off64_t at), (fd, p, n, at))
FAILING(int, fsync, "fsync", -1, (int fd), (fd))
FAILING(int, fdatasync, "fsync", -1, (int fd), (fd))
FAILING(int, ftruncate, "ftruncate", -1, (int fd, off_t n), (fd, n))
FAILING(int, ftruncate64, "ftruncate", -1, (int fd, off64_t n), (fd, n))
FAILING(void *, mmap, "mmap", MAP_FAILED, (void *at, size_t n, int prot, int flags, int fd, off_t off), (at, n, prot, flags, fd, off))
FAILING(int, connect, "connect", -1, (int fd, const struct sockaddr *a, socklen_t n), (fd, a, n))
FAILING(ssize_t, send, "send", -1, (int fd, const void *p, size_t n, int flags), (fd, p, n, flags))
FAILING(ssize_t, sendmsg, "send", -1, (int fd, const struct msghdr *m, int flags), (fd, m, flags))
FAILING(ssize_t, recv, "recv", -1, (int fd, void *p, size_t n, int flags), (fd, p, n, flags))
FAILING(ssize_t, recvmsg, "recv", -1, (int fd, struct msghdr *m, int flags), (fd, m, flags))
FAILING(int, unlink, "unlink", -1, (const char *path), (path))
/* clang-format on */

int
pthread_create(pthread_t *id, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
	static __typeof__(&pthread_create) real;

	if (real == NULL)
		real = (__typeof__(&pthread_create))(uintptr_t)dlsym(RTLD_NEXT, "pthread_create");
	return threads_full() ? error : real(id, a, run, arg);
}

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

/* open, open64 and openat end in one system call. */
#define OPENING(function, dir, params, last)                                                     \
	int function params                                                                      \
	{                                                                                        \
		va_list ap;                                                                      \
		mode_t mode;                                                                     \
                                                                                                 \
		va_start(ap, last);                                                              \
		mode = mode_of(flags, ap);                                                       \
		va_end(ap);                                                                      \
		return fails("open", CALLER) ? -1                                                \
					     : (int)syscall(SYS_openat, dir, path, flags, mode); \
	}

/* clang-format off */
OPENING(open, AT_FDCWD, (const char *path, int flags, ...), flags)
OPENING(open64, AT_FDCWD, (const char *path, int flags, ...), flags)
OPENING(openat, dir_fd, (int dir_fd, const char *path, int flags, ...), flags)
/* clang-format on */
