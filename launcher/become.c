/* Turns this very process into the application: same PID, everything else as the settings say, in an order in which
 * each step still has the privilege that it needs. */
#define _GNU_SOURCE
#include "launch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436 /* Linux 5.9, the same number on every architecture but alpha */
#endif

enum { CAPABILITIES = 64, SIGNALS = 64 };

/* Blocked signals may be inherited; so may a console that init opened for this process, and the application may have
 * none but its own. The hang-up signal for losing the console is discarded: it is ignored, and not blocked. */
void leave_inherited_session(void)
{
	sigset_t none;
	int terminal;
	sigemptyset(&none);
	if (sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		fail("sigprocmask", "no signal");
	if (signal(SIGHUP, SIG_IGN) == SIG_ERR)
		fail("signal", "SIGHUP");
	terminal = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (terminal >= 0) {
		if (ioctl(terminal, TIOCNOTTY) < 0)
			fail("TIOCNOTTY", "/dev/tty");
		close(terminal);
	}
}

static void enter_session(const struct settings *s)
{
	/* The leader of a process group cannot make a session (EPERM); only a terminal needs one. */
	if (getsid(0) != getpid() && setsid() < 0 && (errno != EPERM || s->terminal))
		fail("setsid", "the application");
	if (s->terminal && ioctl(0, TIOCSCTTY, 0) < 0)
		fail("TIOCSCTTY", "standard input");
}

static void set_limits(const struct settings *s)
{
	size_t i;
	char name[32];
	int fd;
	for (i = 0; i < s->rlimit_count; i++)
		if (setrlimit(s->rlimits[i].resource, &s->rlimits[i].limit) < 0) {
			snprintf(name, sizeof name, "resource %d", s->rlimits[i].resource);
			fail("setrlimit", name);
		}
	if (s->has_umask)
		umask(s->umask);
	if (s->oom_score_adj) {
		fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, s->oom_score_adj, strlen(s->oom_score_adj)) < 0)
			fail("oom_score_adj", s->oom_score_adj);
		close(fd);
	}
}

/* Capabilities unknown to the kernel are left out of every set, as OCI runtimes do. Returns the known ones. */
static uint64_t drop_bounding(uint64_t keep)
{
	uint64_t known = 0;
	int capability, held;
	char name[32];
	for (capability = 0; capability < CAPABILITIES; capability++) {
		held = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
		if (held < 0)
			break;
		known |= UINT64_C(1) << capability;
		if (held && !(keep >> capability & 1) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) {
			snprintf(name, sizeof name, "capability %d", capability);
			fail("drop from the bounding set", name);
		}
	}
	return known;
}

static int has_groups(const struct settings *s)
{
	int count = getgroups(0, NULL);
	gid_t *held;
	if (count < 0)
		fail("getgroups", "the application");
	if ((size_t)count != s->group_count)
		return 0;
	if (count == 0)
		return 1;
	held = zeroed((size_t)count, sizeof *held);
	if (getgroups(count, held) != count)
		fail("getgroups", "the application");
	return memcmp(held, s->groups, (size_t)count * sizeof *held) == 0;
}

/* setgroups(2) needs a capability even to change nothing, so it is skipped then: an init may lack the capability. */
static void set_user(const struct settings *s)
{
	char name[32];
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		fail("PR_SET_KEEPCAPS", "the application");
	if (!has_groups(s) && setgroups(s->group_count, s->groups) < 0)
		fail("setgroups", "the application");
	if (setresgid(s->gid, s->gid, s->gid) < 0) {
		snprintf(name, sizeof name, "gid %lu", (unsigned long)s->gid);
		fail("setresgid", name);
	}
	if (setresuid(s->uid, s->uid, s->uid) < 0) {
		snprintf(name, sizeof name, "uid %lu", (unsigned long)s->uid);
		fail("setresuid", name);
	}
}

/* The structures of capset(2), which C libraries do not declare. */
static void set_capabilities(const struct settings *s, uint64_t known)
{
	struct { uint32_t version; int pid; } header = {0x20080522, 0};
	struct { uint32_t effective, permitted, inheritable; } sets[2];
	uint64_t effective = s->effective & known, permitted = s->permitted & known;
	uint64_t inheritable = s->inheritable & known, ambient = s->ambient & known;
	int i, capability;
	char name[32];
	for (i = 0; i < 2; i++) {
		sets[i].effective = (uint32_t)(effective >> 32 * i);
		sets[i].permitted = (uint32_t)(permitted >> 32 * i);
		sets[i].inheritable = (uint32_t)(inheritable >> 32 * i);
	}
	if (syscall(SYS_capset, &header, sets) < 0)
		fail("capset", "the application");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		fail("clear the ambient set", "the application");
	/* The kernel refuses one that is not inheritable or not permitted; OCI runtimes go on without it. */
	for (capability = 0; capability < CAPABILITIES; capability++)
		if (ambient >> capability & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) < 0 &&
		    errno != EPERM && errno != EINVAL) {
			snprintf(name, sizeof name, "capability %d", capability);
			fail("raise in the ambient set", name);
		}
}

/* By the bare system call, because C libraries reserve some real-time signals and refuse them here. All zero is the
 * kernel's structure for the default action; KILL and STOP have no other action. */
static void reset_signals(void)
{
	static const unsigned long default_action[8];
	int number;
	for (number = 1; number <= SIGNALS; number++)
		if (number != SIGKILL && number != SIGSTOP &&
		    syscall(SYS_rt_sigaction, number, default_action, NULL, SIGNALS / 8) < 0)
			fail("rt_sigaction", "the default action");
}

static void close_others(void)
{
	DIR *directory;
	struct dirent *entry;
	int fd;
	if (syscall(SYS_close_range, 3U, ~0U, 0U) == 0)
		return;
	if (errno != ENOSYS && errno != EPERM) /* before Linux 5.9; an old seccomp profile */
		fail("close_range", "3 and above");
	directory = opendir("/proc/self/fd");
	if (!directory)
		fail("opendir", "/proc/self/fd");
	while ((entry = readdir(directory))) {
		fd = atoi(entry->d_name);
		if (fd > 2 && fd != dirfd(directory)) /* that one closes on exec */
			close(fd);
	}
}

/* Checks with the exec's own capabilities. access() is for an old seccomp profile that fails faccessat2 with EPERM. */
static int may_execute(const char *path)
{
	return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 || access(path, X_OK) == 0;
}

/* Looks `name` up as runc does, in the application's own PATH: the first file that may be executed, never through a
 * relative element. The path is stored in `room`; NULL where there is none. */
static const char *find(const char *name, char **env, char room[PATH_MAX])
{
	const char *path = NULL, *end;
	struct stat info;
	for (; *env && !path; env++)
		path = strncmp(*env, "PATH=", 5) == 0 ? *env + 5 : NULL;
	for (; path && *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		if (*path != '/' || snprintf(room, PATH_MAX, "%.*s/%s", (int)(end - path), path, name) >= PATH_MAX)
			continue;
		if (stat(room, &info) == 0 && !S_ISDIR(info.st_mode) && may_execute(room))
			return room;
	}
	return NULL;
}

__attribute__((noreturn)) static void execute(const struct settings *s)
{
	static char room[PATH_MAX];
	const char *path = s->args[0];
	if (!strchr(path, '/'))
		path = find(path, s->env, room);
	if (path)
		execve(path, s->args, s->env);
	else
		errno = ENOENT;
	if (errno == ENOENT)
		status_on_failure = NOT_FOUND;
	fail("exec", s->args[0]);
}

void become(const struct settings *s)
{
	uint64_t known;
	int is_there;
	enter_session(s);
	set_limits(s);
	/* Before set_user, as OCI runtimes do: a directory that is closed to the user is entered all the same. */
	is_there = chdir(s->cwd) == 0;
	known = drop_bounding(s->bounding);
	set_user(s);
	set_capabilities(s, known);
	if (!is_there && chdir(s->cwd) < 0)
		fail("chdir", s->cwd);
	if (s->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		fail("PR_SET_NO_NEW_PRIVS", "the application");
	reset_signals();
	close_others();
	execute(s);
}
