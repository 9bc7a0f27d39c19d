/*
 * files.c - copy and remove trees with fts; nothing of a link's target is ever
 * touched by a removal.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/files.h"

bool
files_is_directory(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum err
files_program_dir(char *buf, size_t cap)
{
	ssize_t n = readlink("/proc/self/exe", buf, cap - 1);

	if (n <= 0)
		return err_from_errno(errno);
	buf[n] = '\0';

	char *slash = strrchr(buf, '/');

	if (slash == NULL || slash == buf)
		return E_NOTFOUND;
	*slash = '\0';
	return E_OK;
}

static enum err
copy_file(const char *from, const char *to, mode_t mode)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
	enum err rv = E_OK;
	char buf[65536];
	ssize_t n = 1;

	if (in < 0)
		return err_from_errno(errno);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777);
	if (out < 0)
		rv = err_from_errno(errno);
	while (rv == E_OK && n > 0) {
		n = read(in, buf, sizeof buf);
		if (n < 0)
			rv = err_from_errno(errno);
		for (ssize_t at = 0; rv == E_OK && at < n;) {
			ssize_t k = write(out, buf + at, (size_t)(n - at));

			if (k < 0)
				rv = err_from_errno(errno);
			else
				at += k;
		}
	}
	if (out >= 0 && close(out) != 0 && rv == E_OK)
		rv = err_from_errno(errno);
	close(in);
	return rv;
}

static FTS *
open_tree(const char *path, int options)
{
	char *copy = strdup(path);
	char *const paths[] = { copy, NULL };
	FTS *tree = copy != NULL ? fts_open(paths, options | FTS_NOCHDIR | FTS_XDEV, NULL) : NULL;

	free(copy);
	return tree;
}

enum err
files_copy_tree(const char *from, const char *to)
{
	FTS *tree = open_tree(from, FTS_LOGICAL);
	size_t skip = strlen(from);
	enum err rv = E_OK;
	char target[4096];
	FTSENT *e;

	if (tree == NULL)
		return E_NOMEM;
	while (rv == E_OK && (e = fts_read(tree)) != NULL) {
		if (e->fts_info == FTS_D && strcmp(e->fts_name, "__pycache__") == 0)
			fts_set(tree, e, FTS_SKIP); /* what a host left in a folder that it ran */
		else if ((size_t)snprintf(target, sizeof target, "%s%s", to, e->fts_path + skip) >=
			 sizeof target)
			rv = E_INVAL;
		else if (e->fts_info == FTS_D && mkdir(target, 0755) != 0)
			rv = err_from_errno(errno);
		else if (e->fts_info == FTS_F)
			rv = copy_file(e->fts_path, target, e->fts_statp->st_mode);
		else if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR)
			rv = err_from_errno(e->fts_errno);
	}
	fts_close(tree);
	return rv;
}

enum err
files_remove_tree(const char *path)
{
	enum err rv = E_OK;
	struct stat st;
	FTSENT *e;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? E_OK : err_from_errno(errno);
	if (!S_ISDIR(st.st_mode))
		return unlink(path) == 0 ? E_OK : err_from_errno(errno);

	FTS *tree = open_tree(path, FTS_PHYSICAL);

	if (tree == NULL)
		return E_NOMEM;
	while (rv == E_OK && (e = fts_read(tree)) != NULL) {
		if (e->fts_info == FTS_D)
			continue;
		if (e->fts_info == FTS_DP ? rmdir(e->fts_path) != 0 : unlink(e->fts_path) != 0)
			rv = err_from_errno(errno);
	}
	fts_close(tree);
	return rv;
}

static bool
known(const char *name, const char *const *patterns)
{
	for (; *patterns != NULL; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

enum err
files_remove_known(const char *dir, const char *const *patterns, size_t *kept)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	enum err rv = E_OK;
	struct dirent *e;

	*kept = 0;
	if (d == NULL) {
		rv = errno == ENOENT ? E_OK : err_from_errno(errno);
		if (fd >= 0)
			close(fd);
		return rv;
	}
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (!known(e->d_name, patterns))
			++*kept;
		else if (unlinkat(fd, e->d_name, 0) != 0 && errno != ENOENT)
			rv = err_from_errno(errno);
	}
	closedir(d);
	if (rv == E_OK && *kept == 0 && rmdir(dir) != 0)
		rv = err_from_errno(errno);
	return rv;
}
