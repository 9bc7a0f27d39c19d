/*
 * install.c - put the node folder into a ComfyUI and take it out again.  A link
 * by default, so that an upgrade of the program is an upgrade of the node; a
 * copy with --copy (for systems that refuse links).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/cli/cli.h"
#include "agent/cli/files.h"

#define PATH_BYTES 4096

/* custom_nodes/comfymon below the given folder. */
static int
target_of(const struct cli *c, char *target, size_t cap)
{
	char nodes[PATH_BYTES - 16];

	if (c->comfyui == NULL) {
		fputs("comfymon: which ComfyUI? --comfyui DIR\n", stderr);
		return CLI_USAGE;
	}
	snprintf(nodes, sizeof nodes, "%s/custom_nodes", c->comfyui);
	if (!files_is_directory(nodes)) {
		fprintf(stderr, "comfymon: %s has no folder custom_nodes\n", c->comfyui);
		return CLI_PROBLEM;
	}
	snprintf(target, cap, "%s/comfymon", nodes);
	return CLI_OK;
}

/* Ours: a link, or a folder with our extension's loader in it. */
static bool
is_ours(const char *target)
{
	char file[PATH_BYTES + 32];
	struct stat st;

	if (lstat(target, &st) == 0 && S_ISLNK(st.st_mode))
		return true;
	snprintf(file, sizeof file, "%s/prestartup_script.py", target);
	return access(file, F_OK) == 0;
}

static int
find_node(const struct cli *c, char *node, size_t cap)
{
	static const char *const beside[] = { "/../node/comfymon", "/../lib/comfymon/node/comfymon",
		"" };
	char dir[PATH_BYTES / 2], file[PATH_BYTES + 32];

	if (c->node != NULL) {
		snprintf(node, cap, "%s", c->node);
	} else {
		if (files_program_dir(dir, sizeof dir) != E_OK)
			dir[0] = '\0';
		for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
			snprintf(node, cap, "%s%s", dir, beside[i]);
			snprintf(file, sizeof file, "%s/prestartup_script.py", node);
			if (access(file, R_OK) == 0)
				break;
		}
	}
	snprintf(file, sizeof file, "%s/prestartup_script.py", node);
	if (access(file, R_OK) != 0) {
		fprintf(
		    stderr, "comfymon: no node folder at %s; --node DIR says where it is\n", node);
		return CLI_PROBLEM;
	}
	return CLI_OK;
}

/* The new one in the old one's place, in one step where the filesystem can: a ComfyUI that starts
 * now finds one of them. */
static enum err
swap(const char *fresh, const char *target)
{
	enum err rv;

	if (renameat2(AT_FDCWD, fresh, AT_FDCWD, target, RENAME_EXCHANGE) == 0)
		return files_remove_tree(fresh);
	if (errno != ENOENT && errno != EINVAL && errno != ENOSYS)
		return err_from_errno(errno);
	rv = files_remove_tree(target);
	if (rv == E_OK && rename(fresh, target) != 0)
		rv = err_from_errno(errno);
	return rv;
}

/* Beside what is there first, so that a failure leaves the old one. */
static int
place(const struct cli *c, const char *node, const char *target)
{
	char resolved[PATH_BYTES], fresh[PATH_BYTES + 8];
	enum err rv;

	if (realpath(node, resolved) == NULL) {
		fprintf(stderr, "comfymon: %s: %s\n", node, strerror(errno));
		return CLI_FAILED;
	}
	snprintf(fresh, sizeof fresh, "%s.new", target);
	rv = files_remove_tree(fresh);
	if (rv == E_OK && c->copy)
		rv = files_copy_tree(resolved, fresh);
	else if (rv == E_OK && symlink(resolved, fresh) != 0)
		rv = err_from_errno(errno);
	if (rv == E_OK)
		rv = swap(fresh, target);
	if (rv != E_OK) {
		fprintf(stderr, "comfymon: %s: %s\n", target, err_text(rv));
		return CLI_FAILED;
	}
	return CLI_OK;
}

static void
say(const struct cli *c, const char *what, const char *target)
{
	if (c->json) {
		(void)cli_print_json(
		    json_pack("{s:s, s:o}", "action", what, "path", cli_string(target)));
	} else {
		printf("%s %s\n", what, target);
	}
}

int
verb_install(struct cli *c)
{
	char target[PATH_BYTES], node[PATH_BYTES];
	struct stat st;
	int rv = target_of(c, target, sizeof target);

	if (rv == CLI_OK)
		rv = find_node(c, node, sizeof node);
	if (rv != CLI_OK)
		return rv;
	if (lstat(target, &st) == 0 && !is_ours(target)) {
		fprintf(
		    stderr, "comfymon: %s exists and is not ours; move it away first\n", target);
		return CLI_PROBLEM;
	}
	rv = place(c, node, target);
	if (rv == CLI_OK) {
		say(c, c->copy ? "copied to" : "linked at", target);
		if (!c->json)
			puts("restart ComfyUI; then: comfymon status, comfymon traces");
	}
	return rv;
}

int
verb_uninstall(struct cli *c)
{
	char target[PATH_BYTES];
	struct stat st;
	int rv = target_of(c, target, sizeof target);

	if (rv != CLI_OK)
		return rv;
	if (lstat(target, &st) != 0) {
		say(c, "nothing at", target);
		return CLI_OK;
	}
	if (!is_ours(target)) {
		fprintf(stderr, "comfymon: %s is not ours\n", target);
		return CLI_PROBLEM;
	}

	enum err e = files_remove_tree(target);

	if (e != E_OK) {
		fprintf(stderr, "comfymon: %s: %s\n", target, err_text(e));
		return CLI_FAILED;
	}
	say(c, "removed", target);
	return CLI_OK;
}
