#define _GNU_SOURCE
#include "shim.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define PF_EXITING 0x4 /* include/linux/sched.h, field 9 of /proc/PID/stat */

int connect_to(const char *path, int kind, long timeout_us)
{
	struct timeval timeout = {.tv_sec = timeout_us / 1000000, .tv_usec = timeout_us % 1000000};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, kind | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -1;
	if (strlen(path) >= sizeof address.sun_path ||
	    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) < 0 ||
	    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) < 0) {
		close(sock);
		return -1;
	}
	strcpy(address.sun_path, path);
	if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
		close(sock);
		return -1;
	}
	return sock;
}

/* Whether the process that listened for a connection lives. One in a PID namespace that is invisible here counts. */
int peer_lives(int sock)
{
	char path[32], text[1024], state, *rest;
	unsigned long flags;
	struct ucred peer;
	socklen_t length = sizeof peer;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
		return 0;
	if (peer.pid <= 0)
		return 1;
	snprintf(path, sizeof path, "/proc/%d/stat", (int)peer.pid);
	if (read_text(path, text, sizeof text) < 0 || !(rest = strrchr(text, ')')) ||
	    sscanf(rest + 1, " %c %*d %*d %*d %*d %*d %lu", &state, &flags) != 2)
		return 0;
	return state != 'Z' && state != 'X' && !(flags & PF_EXITING);
}
