/*
 * Corrects which signals dumb-init 1.2.5 waits for and forwards, and its child's session, without a change of its
 * source: this file is compiled before it (hack/build-dumb-init.sh), and replaces three functions of the C library there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/types.h>
#include <unistd.h>

#define LAST_STANDARD 31 /* dumb-init looks every signal up in an array that ends with this one */

extern pid_t child_pid;
extern char use_setsid;

static void nothing(int number)
{
	(void)number;
}

/*
 * All signals: musl's sigfillset leaves out those that C libraries reserve, one of which is glibc's SIGRTMIN. musl also
 * unblocks these when the first handler is installed (src/signal/sigaction.c). So one is installed here, before dumb-init
 * blocks the set, for a signal that is ignored by default; otherwise the child could be there before they are blocked.
 */
static inline int every_signal(sigset_t *set)
{
	signal(SIGURG, signal(SIGURG, nothing));
	memset(set, 0xff, sizeof *set);
	return 0;
}

/*
 * Signals that a terminal sends to its foreground group (n_tty.c, tty_io.c): a child in that group got them, too. One
 * that has left it with setpgid(2), which fails for a PID 1, did not.
 */
static inline int is_the_childs_too(const siginfo_t *info)
{
	if (use_setsid || info->si_code != SI_KERNEL || getpgid(child_pid) != getpgrp())
		return 0;
	switch (info->si_signo) {
	case SIGINT: case SIGQUIT: case SIGTSTP: case SIGTTIN: case SIGTTOU: case SIGWINCH:
		return 1;
	default:
		return 0;
	}
}

/*
 * The child leads a session and a process group, as the process does that an OCI runtime starts. With a terminal it
 * stays in dumb-init's session, whose terminal that is.
 */
static inline pid_t fork_leader(void)
{
	pid_t session, pid = fork();
	if (pid == 0 && !use_setsid && ioctl(STDIN_FILENO, TIOCGSID, &session) < 0)
		setsid();
	return pid;
}

static inline int next_signal(const sigset_t *set, int *number)
{
	siginfo_t info;
	for (;;) {
		if (sigwaitinfo(set, &info) < 0) {
			if (errno != EINTR)
				return errno;
		} else if (info.si_signo > LAST_STANDARD) {
			kill(use_setsid ? -child_pid : child_pid, info.si_signo);
		} else if (!is_the_childs_too(&info)) {
			*number = info.si_signo;
			return 0;
		}
	}
}

#define fork fork_leader
#define sigfillset every_signal
#define sigwait next_signal
