/*
 * containerd-shim-pouchrich-v2: `start`, `delete` and `-info` without an interpreter, where there is next to nothing to
 * do.
 *
 *   ... start    hands the request to the node's spawner and prints its answer (spawner.c)
 *   ... delete   answers for a container that has left nothing behind (clean.c), else hands the request to the spawner:
 *                containerd kills a `delete` after five seconds, and an interpreter may take that long to start on a
 *                busy machine
 *   ... -info    as start, if containerd asks: for any other parent there would be another spawner
 *
 * Any other request, and anything unexpected, is left to the script beside this program, which has the same name with
 * `.py`. The script does everything, and gets the same arguments, environment, working directory and standard input. So
 * this program has only one error of its own: that there is no such script.
 *
 * This program is SITE/runtime/libexec/containerd-shim-pouchrich-v2, the code is SITE/shim, and `python3` beside this
 * program is the interpreter that runs it. Code and interpreter are part of the spawner's key.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <string.h>

#define COPIED " (a copy of this program does not work by itself, a symbolic link to it does)"

char here[PATH_MAX];

/* Must agree with shim.manager.start.is_containerd about the parent. */
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
