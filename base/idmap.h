/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who owns what at the destination: rsync's --usermap, --groupmap and --chown.
 *
 *   map  = rule *("," rule)         the first rule that matches an id decides
 *   rule = FROM ":" TO
 *   FROM = name | id | LOW-HIGH     a user (group), one id, a range of ids
 *        | pattern                  of names, with * ? [class]; "*" is every id
 *        | nothing                  ids that have no name here
 *   TO   = name | id
 *
 * An id that no rule matches stays what it is. Names are those of this machine;
 * a FROM that nobody is called is fine (lists are shared between machines), a
 * TO must exist.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/* Built by one thread; then dr_idmap_user() and dr_idmap_group() are safe from any thread. */
struct dr_idmap;

/* 0, or -ENOMEM. The new map changes nothing. */
int dr_idmap_create(struct dr_idmap **ret);
/* NULL is fine. */
void dr_idmap_destroy(struct dr_idmap *map);

/*
 * Append the rules of one option. 0, -EINVAL or -ERANGE (a malformed rule, an
 * unknown TO), or another -errno of the name service; on failure the map is as it was.
 */
int dr_idmap_add_users(struct dr_idmap *map, const char *spec, struct dr_err *err);
int dr_idmap_add_groups(struct dr_idmap *map, const char *spec, struct dr_err *err);

/*
 * "USER:GROUP", "USER", "USER:" or ":GROUP": the same as "*:USER" and "*:GROUP"
 * in the maps, with the same errors.
 */
int dr_idmap_chown(struct dr_idmap *map, const char *spec, struct dr_err *err);

/*
 * The owner at the destination. A NULL map is the identity. May ask the name
 * service, and so block, when an id meets a rule that needs its name; answers
 * are kept (a bounded number of them). While the service fails, such rules do
 * not match: an id then rather stays what it is than becomes somebody else's.
 */
uid_t dr_idmap_user(const struct dr_idmap *map, uid_t uid);
gid_t dr_idmap_group(const struct dr_idmap *map, gid_t gid);
