/* Becomes a stop script of the container's init, without the capabilities by which it would change the node. */
#define _GNU_SOURCE
#include "launch.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SYS_ADMIN = 21, SYS_TIME = 25 }; /* linux/capability.h; both in the first word of a set */

/* A stop script unmounts, by force, or remounts read-only whatever it sees, and sets the clock. Both reach beyond the
 * container: a file system is one, however often it is mounted. */
void become_stop_script(char **words)
{
	struct { uint32_t version; int pid; } header = {0x20080522, 0};
	struct { uint32_t effective, permitted, inheritable; } sets[2];
	const uint32_t kept = ~(UINT32_C(1) << SYS_ADMIN | UINT32_C(1) << SYS_TIME);
	/* Root gets the bounding set when it executes a program (capabilities(7)). Without CAP_SETPCAP it stays as it is,
	 * and so does the script. */
	prctl(PR_CAPBSET_DROP, SYS_ADMIN, 0, 0, 0);
	prctl(PR_CAPBSET_DROP, SYS_TIME, 0, 0, 0);
	if (syscall(SYS_capget, &header, sets) < 0)
		fail("capget", words[0]);
	sets[0].effective &= kept;
	sets[0].permitted &= kept;
	sets[0].inheritable &= kept;
	if (syscall(SYS_capset, &header, sets) < 0)
		fail("capset", words[0]);
	execv(words[0], words);
	fail("execv", words[0]);
}
