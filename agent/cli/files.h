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
bool files_is_directory(const char *path);
/* Folder of this program, resolved. */
MUST_CHECK enum err files_program_dir(char *buf, size_t cap);
