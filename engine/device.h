/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a file system at the destination can hold, found out by trying before
 * the first change is made to it, so that what cannot be kept is known once and
 * not met again at every file.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/entry.h"

/* Facts about a file system; never changed once they are known. */
struct dr_holds {
	unsigned kinds;      /* DR_ATTR_BIT of those it can hold */
	unsigned flags_mask; /* inode flags it can hold */
	bool give_away;      /* files may be given to any owner */
	bool
	    created_known; /* a new entry belongs to created_uid and created_gid (or a setgid directory's group) */
	uint32_t created_uid, created_gid;
	bool devices, fifos, sockets, symlinks, hard_links;
	bool swap;                      /* RENAME_EXCHANGE */
	bool folds_names;               /* upper and lower case, or forms of Unicode, are one name to it */
	uint32_t time_step_ns;          /* granularity of times, at most 2 s */
	int64_t time_min_s, time_max_s; /* what is stored for less and for more */
};

struct dr_device {
	struct dr_device *next;
	uint64_t dev;
	uint64_t type; /* f_type of statfs */
	int fd;        /* some directory on it */
	int sync_error; /* -errno that a sync has ever told: it tells each failure once; one thread at a time */
	struct dr_holds probed;
	_Atomic(const struct dr_holds *) holds;

	atomic_bool no_clone;      /* FICLONE was refused */
	atomic_bool no_range_copy; /* copy_file_range was refused */
};

struct dr_devices {
	pthread_mutex_t lock;
	_Atomic(struct dr_device *) first;
};

void dr_devices_init(struct dr_devices *devices);
void dr_devices_finish(struct dr_devices *devices);

/*
 * The device that the directory `fd` is on. It lives as long as `devices`.
 * -errno: no memory or descriptor. Any thread.
 */
int dr_devices_get(struct dr_devices *devices, int fd, uint64_t dev, struct dr_device **ret);

/*
 * What is known of the device: that it holds everything, until it was probed. A
 * destination that needs no change is found equal without a probe, and so
 * without being touched.
 */
static inline const struct dr_holds *dr_device_holds(const struct dr_device *device)
{
	return atomic_load_explicit(&device->holds, memory_order_acquire);
}

/* Was it probed (or can't be)? */
bool dr_device_known(const struct dr_device *device);

/*
 * Finds out by trying, in a hidden directory that is gone afterwards. One
 * thread at a time. -errno: nothing can be made there, and everything is
 * taken to be held.
 */
int dr_device_probe(struct dr_device *device);

/* The time that is stored for t. */
struct dr_time dr_holds_time(const struct dr_holds *holds, struct dr_time t);
