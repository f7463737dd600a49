/*
 * containerd-shim-pouchrich-v2: `start`, `delete` and `-info` where there is next to nothing to do, without an
 * interpreter.
 *
 *   ... start    hands the request to the node's spawner and prints its answer (spawner.c)
 *   ... delete   answers for a container of which nothing is left (clean.c), else hands the request to the spawner:
 *                containerd ends it after five seconds, which an interpreter may need to begin on a busy machine
 *   ... -info    as start, where containerd asks: anybody else would have a spawner of their own
 *
 * Whatever else is asked, and whatever is not as expected, is for the script beside this program, of the same name with
 * `.py`, which does all of it and has the same arguments, environment, working directory and standard input. So this
 * program has no errors of its own but one: that there is no such script.
 *
 * It is SITE/runtime/libexec/containerd-shim-pouchrich-v2, and the code SITE/shim; `python3` beside it is the
 * interpreter that runs it. Both are part of the spawner's key.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <string.h>

#define COPIED " (a copy of this program does not work by itself, a symbolic link to it does)"

char here[PATH_MAX];

/* What shim.manager.start.is_containerd says of the parent. */
static int containerd_asks(void)
{
	static const char name[] = "containerd";
	char path[32], comm[17];
	snprintf(path, sizeof path, "/proc/%d/comm", (int)getppid());
	return !read_text(path, comm, sizeof comm) && !strncmp(comm, name, strlen(name));
}

int main(int argc, char **argv)
{
	char script[PATH_MAX];
	const char *action = argc > 1 ? argv[argc - 1] : "", *reason;
	ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
	if (length <= 0 || !FITS(script, "%s.py", here)) {
		dprintf(2, NAME ": /proc/self/exe: %s\n", strerror(errno));
		return 1;
	}
	*strrchr(here, '/') = 0;
	if (!strcmp(action, "start") || (argc == 2 && !strcmp(action, "-info") && containerd_asks()))
		ask_spawner(argc, argv, 1);
	if (!strcmp(action, "delete") && !answer_delete(argc, argv))
		ask_spawner(argc, argv, 0);
	execv(script, argv);
	reason = strerror(errno);
	dprintf(2, NAME ": %s: %s%s\n", script, reason, is_missing(script) ? COPIED : "");
	return 1;
}
