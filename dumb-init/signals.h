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
#include <time.h>
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
 * Gives up the terminal, and returns whether there was one. If dumb-init leads the session, the kernel sends SIGHUP and
 * SIGCONT to the foreground group, which is dumb-init's own (tty_jobctrl.c, disassociate_ctty): they are not for the
 * child. Signals are blocked by now, so they are pending when ioctl(2) returns.
 */
static inline int gave_up_terminal(void)
{
	const struct timespec now = {0, 0};
	sigset_t sent;
	if (ioctl(STDIN_FILENO, TIOCNOTTY) < 0)
		return 0;
	sigemptyset(&sent);
	sigaddset(&sent, SIGHUP);
	sigaddset(&sent, SIGCONT);
	while (sigtimedwait(&sent, NULL, &now) > 0)
		;
	return 1;
}

/*
 * The child leads a session and a process group, and has the terminal, as the process does that an OCI runtime starts:
 * dumb-init itself arranges that only where it forwards signals to the whole session.
 */
static inline pid_t fork_leader(void)
{
	int had_terminal = !use_setsid && gave_up_terminal();
	pid_t pid = fork();
	if (pid == 0 && !use_setsid) {
		setsid();
		if (had_terminal)
			ioctl(STDIN_FILENO, TIOCSCTTY, 0);
	}
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
		} else {
			*number = info.si_signo;
			return 0;
		}
	}
}

#define fork fork_leader
#define sigfillset every_signal
#define sigwait next_signal
