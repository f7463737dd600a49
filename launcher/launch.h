/*
 * THE SETTINGS, /run/pouchrich/app: records that each end with a NUL byte, so that a value may hold any other byte.
 * The first is `pouchrich-launch 1`. The others follow in any order; numbers are decimal unless noted otherwise:
 *
 *   uid N, gid N                  default 0
 *   group N                       a supplementary group; may repeat
 *   bounding HEX, permitted HEX, effective HEX, inheritable HEX, ambient HEX
 *                                 capability sets as bit masks; default 0
 *   no-new-privs
 *   rlimit RESOURCE SOFT HARD     18446744073709551615 is infinity; may repeat
 *   umask OCTAL, oom-score-adj N  default: as inherited from init
 *   cwd PATH                      default /
 *   terminal                      descriptor 0 becomes the controlling terminal
 *   stay                          be the application's parent, and report its wait status
 *   pass-on                       with `stay`: forward to the application the signals that PID 1 sends
 *   env NAME=VALUE                may repeat, in order; the environment holds nothing else
 *   arg WORD                      may repeat, in order; at least one
 *
 * Any other record is an error. runtime/init/launcher_settings.py writes them, settings.c reads them.
 */
#ifndef LAUNCH_H
#define LAUNCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#define SETTINGS "/run/pouchrich/app"

enum { NOT_ADOPTED = 125, CANNOT_RUN = 126, NOT_FOUND = 127 };
enum { RLIMITS = 32 };

struct settings {
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t group_count;
	uint64_t bounding, permitted, effective, inheritable, ambient;
	struct { int resource; struct rlimit limit; } rlimits[RLIMITS];
	size_t rlimit_count;
	int no_new_privs, terminal, stay, pass_on, has_umask;
	mode_t umask;
	const char *oom_score_adj; /* NULL: do not change it */
	const char *cwd;
	char **env, **args; /* NULL-terminated */
	size_t env_count, arg_count;
};

/* The exit status when something fails. NOT_ADOPTED at first. */
extern int status_on_failure;

/* Report that `op` on `what` failed, by errno or for `reason`, and exit. */
__attribute__((noreturn)) void fail(const char *op, const char *what);
__attribute__((noreturn)) void fail_with(int reason, const char *op, const char *what);

/* Zeroed memory for `count` items of `size` bytes, never freed. */
void *zeroed(size_t count, size_t size);

/* Each returns only if everything succeeded, and otherwise exits. */
void read_settings(struct settings *s);
void leave_inherited_session(void);
__attribute__((noreturn)) void become(const struct settings *s);
__attribute__((noreturn)) void become_stop_script(char **words);

#endif
