/* Declarations that the parts of the program share. */
#ifndef SHIM_H
#define SHIM_H

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define NAME "containerd-shim-pouchrich-v2"
#define RUN "/run/pouchrich"
#define RECORDS "/var/lib/pouchrich/poststop"

/* The directory of this program and of the script. */
extern char here[PATH_MAX];

/* Formats into `room`; whether the text fits. */
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
 * The actions return only if this program cannot do the work. answer_delete returns 0 if the spawner should do it, and
 * -1 for a request that this program does not understand. `has_time`: wait for a spawner that is being started.
 */

void ask_spawner(int argc, char **argv, int has_time);
int answer_delete(int argc, char **argv);

#endif
