/*
 * file.h - paths and files that nobody else can turn against us: no symlink is
 * followed at the last step, modes are owner only, a written file is whole or
 * the old one.  Any thread; blocks on the disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/err.h"

/* dir/name into out; E_FULL when it does not fit. */
MUST_CHECK enum err path_join(char *out, size_t cap, const char *dir, const char *name);

/*
 * The run directory: `given` (COMFYMON_RUN_DIR) if not empty, else
 * /dev/shm/comfymon-<uid>, else $XDG_RUNTIME_DIR/comfymon.  Names only; see
 * dir_prepare.
 */
MUST_CHECK enum err path_run_dir(const char *given, char *out, size_t cap);
/* The data directory: `given`, for root /var/lib/comfymon, else $XDG_STATE_HOME/comfymon,
 * else $HOME/.local/state/comfymon; E_NOTFOUND without a home. */
MUST_CHECK enum err path_data_dir(const char *given, char *out, size_t cap);

/*
 * Make a directory (with its parents) if it is missing, 0700, and check it:
 * a directory, no symlink, ours or root's, nobody else may write. E_PERM when it is not.
 */
MUST_CHECK enum err dir_prepare(const char *path);

/* Open an existing regular file for reading, O_NOFOLLOW, not a fifo or device. */
MUST_CHECK enum err file_open_read(const char *path, int *fd);
/* All of it, at most `cap` bytes (E_FULL beyond), NUL-terminated behind; heap, the caller frees. */
MUST_CHECK enum err file_read_all(const char *path, size_t cap, char **out, size_t *bytes);
/* Write a temporary beside it, sync, rename, sync the directory. 0600. */
MUST_CHECK enum err file_write_atomic(const char *path, const void *data, size_t n);
/*
 * A description of our own of the terminal behind fd, for writing without waiting: poll says of a
 * terminal only that it takes something, and O_NONBLOCK on the one that we were given would be
 * everybody's.  -1: it is no terminal, or may not be opened.
 */
int file_terminal(int fd);
/* pread until n bytes or the end of the file; *got says how many. */
MUST_CHECK enum err file_pread(int fd, void *p, size_t n, uint64_t offset, size_t *got);
