/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linkracer OUTSIDE TRASH VICTIM...
 *
 * The attacker in the symlink tests. As fast as it can, until killed, it
 * exchanges every VICTIM (a name in the destination tree) for a symbolic link
 * to OUTSIDE/<basename of the victim> and back, so that whoever resolves the
 * victim's path twice, or follows a link once, lands outside. What the victim
 * replaces meanwhile is moved into TRASH (a directory on the same file system).
 *
 * A victim that ends in '/' is hunted instead: each temporary name of drover
 * in that directory is replaced by a link to OUTSIDE/prey.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t chance_state = 0x9e3779b97f4a7c15;
static unsigned trash_count;

static unsigned chance(unsigned below)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return (unsigned)(chance_state % below);
}

/* Waits a random moment, mostly none, so that every interleaving gets its turn. */
static void dither(void)
{
	for (volatile unsigned n = chance(4) ? chance(200) : chance(20000); n > 0; n--)
		;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Victim becomes a link, for a moment. The link itself waits in TRASH. */
static void swap(const char *outside, const char *trash, const char *victim)
{
	char aside[PATH_MAX], target[PATH_MAX];

	snprintf(aside, sizeof(aside), "%s/%u", trash, trash_count++);
	snprintf(target, sizeof(target), "%s/%s", outside, base_name(victim));
	if (symlink(target, aside) != 0)
		return;
	if (renameat2(AT_FDCWD, aside, AT_FDCWD, victim, RENAME_EXCHANGE) != 0) {
		/* The victim is gone for the moment: take its name. */
		if (renameat2(AT_FDCWD, aside, AT_FDCWD, victim, RENAME_NOREPLACE) != 0)
			unlink(aside);
		return;
	}
	dither();
	renameat2(AT_FDCWD, aside, AT_FDCWD, victim, RENAME_EXCHANGE);
	unlink(aside); /* stays where drover has made it a directory */
	dither();
}

static void hunt(const char *outside, const char *directory)
{
	char target[PATH_MAX];
	struct dirent *entry;
	DIR *dir = opendir(directory);

	if (!dir)
		return;
	snprintf(target, sizeof(target), "%s/prey", outside);
	while ((entry = readdir(dir)) != NULL) {
		if (strncmp(entry->d_name, ".drover.", 8) == 0 &&
		    unlinkat(dirfd(dir), entry->d_name, 0) == 0 &&
		    symlinkat(target, dirfd(dir), entry->d_name) != 0)
			perror("linkracer: symlink");
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: linkracer OUTSIDE TRASH VICTIM...\n");
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		const char *victim = argv[3 + chance((unsigned)argc - 3)];

		if (victim[strlen(victim) - 1] == '/')
			hunt(argv[1], victim);
		else
			swap(argv[1], argv[2], victim);
	}
}
