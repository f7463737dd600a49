/*
 * launch: becomes a container's application under an init, with exactly the process settings of its pod.
 *
 *   launch app     started by the container's init; this process becomes the application with the same PID, or, where
 *                  the settings say `stay`, has it as a child and waits for it to report how it ended
 *   launch halt    the last act of an init that cannot end by itself: tells the shim, and waits to be killed
 *   launch stop PROGRAM [ARG...]
 *                  becomes PROGRAM, which an init runs to stop, without CAP_SYS_ADMIN and CAP_SYS_TIME
 *   launch enter FD PROGRAM [ARG...]
 *                  on the host: becomes PROGRAM in the cgroup whose cgroup.procs is open for writing as FD, and closes
 *                  FD. Whatever PROGRAM makes is in that cgroup from its first instruction
 *
 * The shim listens at /run/pouchrich/app.sock and checks who connected. Nothing is sent on the connection until the
 * shim sends one byte of any value with three descriptors (SCM_RIGHTS): the application's 0, 1 and 2. From then on
 * messages go to the application's standard error. With `stay` this process makes its child between socket() and
 * connect(), so the shim sees the child as its peer while both hold the connection. When the child has ended, its wait
 * status follows on the connection, four bytes in the machine's byte order.
 *
 * EXIT STATUS without an application: 125 before the shim has answered; afterwards 127 where the program does not
 * exist, and 126 for any other obstacle. One line on standard error says `pouchrich-launch: OP: WHAT: REASON`.
 */
#define _GNU_SOURCE
#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define APP_SOCKET "/run/pouchrich/app.sock"
#define HALT_SOCKET "/run/pouchrich/halt.sock"

int status_on_failure = NOT_ADOPTED;

void fail(const char *op, const char *what)
{
	int reason = errno;
	signal(SIGPIPE, SIG_IGN); /* a reader that has gone must not change the exit status */
	dprintf(2, "pouchrich-launch: %s: %s: %s\n", op, what, strerror(reason));
	_exit(status_on_failure);
}

void fail_with(int reason, const char *op, const char *what)
{
	errno = reason;
	fail(op, what);
}

void *zeroed(size_t count, size_t size)
{
	void *room = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (room == MAP_FAILED)
		fail("mmap", SETTINGS);
	return room;
}

static int make_socket(void)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0)
		fail("socket", "AF_UNIX");
	return sock;
}

static void connect_to(int sock, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	strcpy(address.sun_path, path); /* one of our two constants */
	while (connect(sock, (struct sockaddr *)&address, sizeof address) < 0)
		if (errno != EINTR)
			fail("connect", path);
}

static void receive_stdio(int sock)
{
	char byte;
	int fds[3], i;
	ssize_t got;
	union { struct cmsghdr header; char room[CMSG_SPACE(sizeof fds)]; } control;
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
	struct cmsghdr *rights;
	do
		got = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		fail("recvmsg", APP_SOCKET);
	if (got == 0)
		fail_with(ECONNRESET, "recvmsg", APP_SOCKET);
	rights = CMSG_FIRSTHDR(&message);
	if (!rights || rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN(sizeof fds))
		fail_with(EPROTO, "recvmsg", APP_SOCKET);
	memcpy(fds, CMSG_DATA(rights), sizeof fds);
	for (i = 0; i < 3; i++) /* 0 to 2 are in use, so the received descriptors are above them */
		if (dup2(fds[i], i) < 0)
			fail("dup2", "standard descriptors");
	status_on_failure = CANNOT_RUN;
}

/* Signals from PID 1: systemd knows only this process of the unit, and signals it to stop it from the inside, say. */
static void pass_on(pid_t child, const siginfo_t *info)
{
	if (info->si_pid == 1 && info->si_code <= 0) /* not from the kernel */
		kill(child, info->si_signo);
}

/* Returns in the child. The parent blocks all signals; if it `passes_on`, it forwards those of PID 1 to the child. */
static void stay_as_parent(int sock, int passes_on)
{
	sigset_t every;
	siginfo_t info;
	pid_t child, ended;
	int status;
	memset(&every, 0xff, sizeof every); /* a C library's sigfillset() leaves out the signals it reserves */
	signal(SIGCHLD, SIG_DFL);
	if (sigprocmask(SIG_SETMASK, &every, NULL) < 0)
		fail("sigprocmask", "all signals");
	child = fork();
	if (child < 0)
		fail("fork", "the application");
	if (child == 0)
		return;
	while ((ended = waitpid(child, &status, WNOHANG)) == 0)
		if (sigwaitinfo(&every, &info) >= 0 && passes_on)
			pass_on(child, &info);
	if (ended < 0)
		fail("waitpid", "the application");
	/* If the shim has gone, or the child never connected, there is nobody to tell. */
	if (send(sock, &status, sizeof status, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ENOTCONN &&
	    errno != ECONNRESET)
		fail("send", APP_SOCKET);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Stays until the shim has seen who connected and closes: the shim kills PID 1, and this process with it. */
static void halt(void)
{
	char byte;
	int sock = make_socket();
	connect_to(sock, HALT_SOCKET);
	while (read(sock, &byte, 1) < 0)
		if (errno != EINTR)
			fail("read", HALT_SOCKET);
}

__attribute__((noreturn)) static void enter(const char *number, char **words)
{
	char *end;
	long fd = strtol(number, &end, 10);
	if (*end || fd < 3 || fd > INT_MAX)
		fail_with(EINVAL, "usage", "launch enter FD PROGRAM [ARG...]");
	if (write((int)fd, "0", 1) < 0) /* the writing process (cgroup-v2.rst, "Processes") */
		fail("enter", "cgroup.procs");
	close((int)fd);
	execv(words[0], words);
	fail("execv", words[0]);
}

int main(int argc, char **argv)
{
	static struct settings settings;
	int fd, sock;
	do /* no descriptor opened later may become a standard descriptor */
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		fail("open", "/dev/null");
	if (argc == 2 && strcmp(argv[1], "halt") == 0) {
		halt();
		return 0;
	}
	if (argc >= 4 && strcmp(argv[1], "enter") == 0)
		enter(argv[2], argv + 3);
	if (argc >= 3 && strcmp(argv[1], "stop") == 0)
		become_stop_script(argv + 2);
	if (argc != 2 || strcmp(argv[1], "app") != 0)
		fail_with(EINVAL, "usage", "launch app | halt | stop PROGRAM [ARG...] | enter FD PROGRAM [ARG...]");
	read_settings(&settings);
	sock = make_socket();
	if (settings.stay)
		stay_as_parent(sock, settings.pass_on);
	leave_inherited_session();
	connect_to(sock, APP_SOCKET);
	receive_stdio(sock);
	become(&settings);
}
