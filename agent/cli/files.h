/*
 * files.h - inside of the command line: trees of files, for install and purge.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/err.h"

/* Copy a folder (files, folders; links are followed for files only inside it). The target must not
 * exist. */
MUST_CHECK enum err files_copy_tree(const char *from, const char *to);
/* Remove a folder and all in it; never follows a link, never leaves its file system. Not there:
 * E_OK. */
MUST_CHECK enum err files_remove_tree(const char *path);
/*
 * Remove the files of `dir` whose names match one of the shell patterns (a list
 * ended by NULL), and the folder when nothing else is in it; *kept is how much
 * is.  A link in place of the folder is refused.  Not there: E_OK.
 */
MUST_CHECK enum err files_remove_known(const char *dir, const char *const *patterns, size_t *kept);
bool files_is_directory(const char *path);
/* Folder of this program, resolved. */
MUST_CHECK enum err files_program_dir(char *buf, size_t cap);
