/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scout.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/run.h"

/* Runs that are over by then need no estimate. */
#define DELAY_S 3

/* A directory still to be counted. */
struct ahead {
	struct ahead *next;
	char path[]; /* beneath the root, "" for itself */
};

static bool ends(const struct dr_scout *s)
{
	return atomic_load_explicit(&s->end, memory_order_relaxed) ||
	       atomic_load_explicit(s->terms.stop, memory_order_relaxed);
}

static struct ahead *push(struct ahead *stack, const char *dir, const char *name)
{
	size_t dir_len = strlen(dir), name_len = strlen(name);
	struct ahead *a = malloc(sizeof *a + dir_len + name_len + 2);
	if (!a)
		return stack; /* the estimate will be a little low */
	a->next = stack;
	sprintf(a->path, "%s%s%s", dir, dir_len ? "/" : "", name);
	return a;
}

static bool counts(const struct dr_scout *s, const char *dir, const struct dr_name *name, bool is_dir)
{
	const struct dr_filter *filter = s->terms.filter;
	if (dr_temp_is(name->name, name->len))
		return false;
	if (dr_filter_empty(filter))
		return true;
	struct ahead *path = push(NULL, dir, name->name);
	bool in = !path || !dr_filter_excludes(filter, path->path, strlen(path->path), is_dir);
	free(path);
	return in;
}

static struct ahead *count_entry(struct dr_scout *s, int fd, const char *dir, const struct dr_name *name,
				 struct ahead *stack)
{
	struct dr_meta m;
	if (dr_fs_stat(fd, name->name, &m) < 0 || !counts(s, dir, name, dr_is_dir(&m)))
		return stack;
	if (dr_is_dir(&m)) {
		atomic_fetch_add(&s->dirs, 1);
		bool other = s->terms.one_file_system && m.dev != s->terms.dev;
		return other ? stack : push(stack, dir, name->name);
	}
	if (dr_is_file(&m)) {
		atomic_fetch_add(&s->files, 1);
		atomic_fetch_add(&s->bytes, m.size_bytes);
	}
	return stack;
}

static struct ahead *count_dir(struct dr_scout *s, const char *path, char *listing, struct ahead *stack)
{
	int fd DR_CLOSE = dr_fs_open_dir(s->terms.root, *path ? path : ".");
	ssize_t filled;
	while (fd >= 0 && !ends(s) && (filled = dr_fs_getdents(fd, listing, DR_LISTING_BYTES)) > 0) {
		struct dr_name name;
		for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &name) && !ends(s);)
			stack = count_entry(s, fd, path, &name, stack);
	}
	return stack;
}

static void count_all(struct dr_scout *s)
{
	char *listing = malloc(DR_LISTING_BYTES);
	struct ahead *stack = listing ? push(NULL, "", "") : NULL;
	while (stack && !ends(s)) {
		struct ahead *a = stack;
		stack = count_dir(s, a->path, listing, a->next);
		free(a);
	}
	atomic_store(&s->complete, listing && !stack && !ends(s));
	for (struct ahead *next; stack; stack = next) {
		next = stack->next;
		free(stack);
	}
	free(listing);
}

static void *scout(void *arg)
{
	struct dr_scout *s = arg;
	struct timespec at;
	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += DELAY_S;
	pthread_mutex_lock(&s->lock);
	while (!atomic_load(&s->end) && pthread_cond_timedwait(&s->wake, &s->lock, &at) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&s->lock);
	if (!ends(s))
		count_all(s);
	return NULL;
}

void dr_scout_begin(struct dr_scout *s, const struct dr_scout_terms *terms)
{
	pthread_condattr_t attr;
	*s = (struct dr_scout){.terms = *terms};
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (terms->wanted)
		s->started = pthread_create(&s->thread, NULL, scout, s) == 0;
}

void dr_scout_start(struct dr_scout *s, struct dr_run *run, int src)
{
	dr_scout_begin(s, &(struct dr_scout_terms){
			      .root = src,
			      .filter = run->options->filter,
			      .one_file_system = run->options->one_file_system,
			      .dev = run->src_dev,
			      .stop = run->stop,
			      .wanted = run->report.observer->wants_estimate,
			  });
}

void dr_scout_end(struct dr_scout *s)
{
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->end, true);
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	if (s->started)
		pthread_join(s->thread, NULL);
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
}
