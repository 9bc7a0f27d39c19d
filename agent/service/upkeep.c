/*
 * upkeep.c - see upkeep.h.
 */
#include "agent/service/upkeep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/service/lock.h"
#include "agent/service/pipeline.h"
#include "agent/store/store.h"

#define ANSWER_MS (60 * 1000) /* a large buffer is written anew meanwhile */

enum err
upkeep_run_dir(const struct service_options *o)
{
	enum err e = dir_prepare(o->run_dir);

	if (e != E_OK)
		return e;
	/* Probes refuse a directory that others may read; those who may send must get through it.
	 */
	if (chmod(o->run_dir, o->allow_uid_count > 0 ? 0711 : 0700) != 0 && errno != EPERM)
		log_warn("run_dir_mode path=%s errno=%d", o->run_dir, errno);
	return E_OK;
}

static bool
is_there(const struct upkeep_file *f)
{
	struct stat st;

	return lstat(f->path, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino;
}

bool
upkeep_missing(const struct upkeep *u)
{
	for (size_t i = 0; i < u->count; i++)
		if (!is_there(&u->files[i]))
			return true;
	return u->again;
}

static void
note(struct upkeep *u, const char *dir, const char *name)
{
	struct upkeep_file *f = &u->files[u->count];
	struct stat st;

	if (path_join(f->path, sizeof f->path, dir, name) != E_OK || lstat(f->path, &st) != 0)
		return; /* the volatile store has no file */
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	u->count++;
}

/* What was remembered under that name has gone, or was never there. */
static bool
is_gone(const struct upkeep *u, const char *dir, const char *name)
{
	char path[sizeof u->files[0].path];

	if (path_join(path, sizeof path, dir, name) != E_OK)
		return false;
	for (size_t i = 0; i < u->count; i++)
		if (strcmp(u->files[i].path, path) == 0)
			return !is_there(&u->files[i]);
	return true;
}

/* ---- the last step, on the pipeline's thread --------------------------------- */

struct finish {
	struct pipeline *p;
	char problem[sizeof((struct status_upkeep *)0)->problem]; /* "" so far */
	bool remade;
};

static enum err
finish(void *ctx, struct store *st, struct processor *processor)
{
	struct finish *f = ctx;
	struct pipeline *p = f->p;
	bool mended = false;
	enum err e;

	(void)processor;
	if (f->problem[0] == '\0' && (e = st->ops->mend(st, &mended)) != E_OK)
		snprintf(f->problem, sizeof f->problem,
		    "the buffer in %.100s was removed and cannot be written anew: %s", p->data_dir,
		    err_text(e));
	if (mended)
		log_error(
		    "buffer_removed path=%s/" STORE_FILE_NAME " written_anew=true", p->data_dir);
	p->upkept.run_dir_remade += f->remade;
	p->upkept.buffer_rewritten += mended;
	if (f->problem[0] != '\0' && strcmp(f->problem, p->upkept.problem) != 0)
		log_error("files_removed text=\"%s\"", f->problem);
	memcpy(p->upkept.problem, f->problem, sizeof f->problem);
	p->upkeep.told = false;
	p->upkeep.again = f->problem[0] != '\0';
	if (p->upkeep.again && p->upkeep.count > 0)
		return E_OK; /* what is gone stays remembered as it was */
	p->upkeep.count = 0;
	note(&p->upkeep, p->data_dir, LOCK_NAME);
	note(&p->upkeep, p->data_dir, STORE_FILE_NAME);
	note(&p->upkeep, p->run_dir, LOCK_NAME);
	note(&p->upkeep, p->run_dir, RUN_SOCKET_NAME);
	note(&p->upkeep, p->run_dir, RUN_CONTROL_NAME);
	return E_OK;
}

enum err
upkeep_begin(const struct upkeep_hands *h)
{
	struct finish f = { .p = h->pipeline };

	return pipeline_query(h->pipeline, finish, &f, ANSWER_MS);
}

/* ---- the main thread's ------------------------------------------------------- */

/* Hold the lock of a directory that is perhaps a new one. */
static enum err
lock_again(const struct upkeep_hands *h, const char *dir, int *lock, struct finish *f)
{
	struct service_holder holder = { 0 };
	enum err e;
	int fd;

	if (!is_gone(&h->pipeline->upkeep, dir, LOCK_NAME))
		return E_OK;
	e = lock_directory(dir, h->o->run_dir, 0, &holder, &fd);
	if (e == E_OK) {
		close(*lock);
		*lock = fd;
	} else if (e == E_BUSY) {
		snprintf(f->problem, sizeof f->problem, "agent %llu has taken %.100s",
		    (unsigned long long)holder.pid, dir);
	}
	return e;
}

static enum err
mend_run_dir(const struct upkeep_hands *h, struct finish *f)
{
	const struct service_options *o = h->o;
	const struct upkeep *u = &h->pipeline->upkeep;
	enum err e = upkeep_run_dir(o);

	if (e == E_OK && strcmp(o->data_dir, o->run_dir) != 0)
		e = lock_again(h, o->run_dir, h->run_lock, f);
	if (e == E_OK && is_gone(u, o->run_dir, RUN_SOCKET_NAME)) {
		f->remade = true;
		e = receiver_listen_again(h->pipeline->receiver);
	}
	if (e == E_OK && o->listen_again != NULL && is_gone(u, o->run_dir, RUN_CONTROL_NAME)) {
		f->remade = true;
		e = o->listen_again(o->ctx);
	}
	if (e != E_OK && f->problem[0] == '\0')
		snprintf(f->problem, sizeof f->problem,
		    "the sockets in %.100s were removed and cannot be made anew: %s", o->run_dir,
		    err_text(e));
	else if (e == E_OK && f->remade)
		log_warn("run_dir_remade path=%s", o->run_dir);
	return e;
}

void
upkeep_mend(const struct upkeep_hands *h)
{
	const struct service_options *o = h->o;
	struct finish f = { .p = h->pipeline };
	enum err e = dir_prepare(o->data_dir);

	/* The data directory first, as at the start; what another agent has taken is its own. */
	if (e == E_OK)
		e = lock_again(h, o->data_dir, h->data_lock, &f);
	if (e == E_OK)
		e = mend_run_dir(h, &f);
	if (e != E_OK && f.problem[0] == '\0')
		snprintf(f.problem, sizeof f.problem, "%.100s: %s", o->data_dir, err_text(e));
	e = pipeline_query(h->pipeline, finish, &f, ANSWER_MS);
	if (e != E_OK)
		log_warn("upkeep_not_finished error=\"%s\"", err_text(e));
}
