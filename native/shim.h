/* What the parts of the program have in common. */
#ifndef SHIM_H
#define SHIM_H

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "containerd-shim-pouchrich-v2"
#define RUN "/run/pouchrich"
#define RECORDS "/var/lib/pouchrich/poststop"

/* The directory of this program, and of the script. */
extern char here[PATH_MAX];

/* Whether `format` made a text that fits. */
#define FITS(room, ...) ((size_t)snprintf(room, sizeof room, __VA_ARGS__) < sizeof room)

/* files.c */

int write_all(int fd, const char *data, size_t size);
int read_text(const char *path, char *text, size_t size);
int is_missing(const char *path);

/* peer.c */

int connect_to(const char *path, int kind, long timeout_us);
int peer_lives(int sock);

/* flags.c */

struct given {
	const char *namespace, *id, *bundle;
};

int parse(int argc, char **argv, struct given *given);
int is_plain(const char *name);

/*
 * The actions: they come back where they are not for this program. answer_delete returns 0 where it is the spawner's,
 * and -1 where it is nothing that this program understands. Who `has_time` waits for a spawner that is being begun.
 */

void ask_spawner(int argc, char **argv, int has_time);
int answer_delete(int argc, char **argv);

#endif
