/* Sends a request to the node's spawner. shim/spawner/request.py defines the request and its answers. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#define TAKEN_TIMEOUT_S 1
#define BOOT_TIMEOUT_S 10
#define PAUSE_MS 2
#define ANSWER_LIMIT 65536

extern char **environ;

/* Moves standard input to a file that can be read again. -1 on failure: nothing was read then, or the input is lost. */
static int keep_input(size_t *size)
{
	static char data[65536];
	ssize_t got;
	int fd = memfd_create("stdin", 0);
	*size = 0;
	if (fd < 0)
		return -1;
	while ((got = read(0, data, sizeof data)) > 0) {
		if (write_all(fd, data, got) < 0) {
			got = -1;
			break;
		}
		*size += got;
	}
	lseek(fd, 0, SEEK_SET);
	dup2(fd, 0);
	close(fd);
	return got < 0 ? -1 : 0;
}

/* Must give the same text as shim.spawner.request.key. */
static int make_key(char *key, size_t size)
{
	static const char *namespaces[] = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
	char path[PATH_MAX], link[64];
	struct stat code, python, root;
	size_t used, i;
	ssize_t length;
	if (!FITS(path, "%s/../../shim", here) || stat(path, &code) < 0 || !FITS(path, "%s/python3", here) ||
	    stat(path, &python) < 0 || stat("/", &root) < 0)
		return -1;
#define NS(found) ((long long)(found).st_mtim.tv_sec * 1000000000 + (found).st_mtim.tv_nsec)
#define U(number) ((unsigned long long)(number))
	used = snprintf(key, size, "%d %llu %llu %lld %llu %llu %lld %llu %llu", (int)getppid(), U(code.st_dev),
			U(code.st_ino), NS(code), U(python.st_dev), U(python.st_ino), NS(python), U(root.st_dev),
			U(root.st_ino));
	for (i = 0; i < sizeof namespaces / sizeof *namespaces; i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", namespaces[i]);
		length = readlink(path, link, sizeof link - 1);
		if (length < 0)
			return -1;
		used += snprintf(key + used, size - used, " %.*s", (int)length, link);
	}
	return 0;
}

/* The key as one big number, modulo 2^61 - 1: 256 * h is (h without its upper 8 bits) * 256 + (those 8 bits). */
static uint64_t hash(const char *key)
{
	const uint64_t modulus = (UINT64_C(1) << 61) - 1, lower = (UINT64_C(1) << 53) - 1;
	uint64_t h = 0;
	for (; *key; key++)
		h = (((h & lower) << 8) + (h >> 53) + (unsigned char)*key) % modulus;
	return h;
}

static int send_request(int sock, const char *key, int argc, char **argv, size_t input)
{
	struct iovec words[IOV_MAX];
	char numbers[3][16];
	size_t count = 0;
	int directory, variables, i, sent;
	union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(int))]; } control = {.room = {0}};
	struct msghdr message = {
		.msg_iov = words, .msg_control = control.room, .msg_controllen = sizeof control.room};
	for (variables = 0; environ[variables]; variables++)
		;
	if ((size_t)argc + variables + 5 > IOV_MAX)
		return -1;
	snprintf(numbers[0], sizeof *numbers, "%d", (int)getppid());
	snprintf(numbers[1], sizeof *numbers, "%d", argc - 1);
	snprintf(numbers[2], sizeof *numbers, "%d", variables);
#define WORD(text) (words[count++] = (struct iovec){(void *)(text), strlen(text) + 1})
	WORD(key);
	WORD(numbers[0]);
	WORD(numbers[1]);
	for (i = 1; i < argc; i++)
		WORD(argv[i]);
	WORD(numbers[2]);
	for (i = 0; i < variables; i++)
		WORD(environ[i]);
	if (input > 0) {
		void *data = mmap(NULL, input, PROT_READ, MAP_PRIVATE, 0, 0);
		if (data == MAP_FAILED)
			return -1;
		words[count++] = (struct iovec){data, input};
	}
	message.msg_iovlen = count;
	directory = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -1;
	control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof directory), .cmsg_level = SOL_SOCKET,
					  .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&control.header), &directory, sizeof directory);
	sent = sendmsg(sock, &message, MSG_NOSIGNAL) < 0 ? -1 : 0;
	close(directory);
	return sent;
}

/* Whether the spawner with this lock file has been ready for longer than an answer takes, or does not exist. */
static int has_served(const char *lock)
{
	char said[33];
	struct stat found;
	size_t length;
	if (stat(lock, &found) < 0 || read_text(lock, said, sizeof said) < 0)
		return 1;
	length = strlen(said);
	return length >= 5 && !strcmp(said + length - 5, "ready") && time(NULL) - found.st_mtime > TAKEN_TIMEOUT_S;
}

/*
 * Returns 0 once the request is taken, and -1 after making sure that it never will be. A spawner that is still starting
 * gets `patience_s`.
 */
static int await_taken(int sock, const char *lock, int patience_s)
{
	char word[ANSWER_LIMIT];
	ssize_t got;
	int waited_s = 0;
	do
		got = recv(sock, word, sizeof word, 0);
	while (got < 0 && errno == EAGAIN && (waited_s += TAKEN_TIMEOUT_S) < patience_s && !has_served(lock));
	if (got < 0) {
		/* From here on TAKEN cannot be sent (EPIPE). If it was sent before, it can still be read. */
		shutdown(sock, SHUT_RDWR);
		got = recv(sock, word, sizeof word, 0);
	}
	return got == 1 && word[0] == 't' ? 0 : -1;
}

/*
 * Of many starters that find nobody listening, one returns -1 to start a spawner, which takes an interpreter: the one
 * that gets the lock on the directory and passes it on to the script. The others wait until the spawner listens, or
 * until the lock is free.
 */
static int connect_or_wait(const char *path)
{
	const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000};
	struct stat found;
	int directory, tries, is_free = 0, sock = connect_to(path, SOCK_SEQPACKET, TAKEN_TIMEOUT_S * 1000000);
	if (sock >= 0)
		return sock;
	mkdir(RUN, 0711);
	directory = open(RUN, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	if (directory < 0)
		return -1;
	if (fstat(directory, &found) < 0 || found.st_uid != geteuid() || found.st_mode & 022) {
		close(directory);
		return -1;
	}
	if (!flock(directory, LOCK_EX | LOCK_NB))
		return -1; /* stays open until the script closes it (shim/manager/start.py) or ends */
	for (tries = 0; tries < BOOT_TIMEOUT_S * 1000 / PAUSE_MS && sock < 0 && !is_free; tries++) {
		nanosleep(&pause, NULL);
		is_free = !flock(directory, LOCK_SH | LOCK_NB);
		sock = connect_to(path, SOCK_SEQPACKET, TAKEN_TIMEOUT_S * 1000000);
	}
	close(directory);
	return sock;
}

void ask_spawner(int argc, char **argv, int has_time)
{
	char key[1024], path[64], lock[72], answer[ANSWER_LIMIT];
	const char *allowed = getenv("POUCHRICH_SPAWNER");
	const struct timeval forever = {0};
	struct ucred peer;
	socklen_t length = sizeof peer;
	size_t input = 0;
	ssize_t got;
	int sock;
	if ((allowed && !strcmp(allowed, "off")) || make_key(key, sizeof key) < 0)
		return;
	snprintf(path, sizeof path, RUN "/spawner-%016llx.sock", (unsigned long long)hash(key));
	snprintf(lock, sizeof lock, "%s.lock", path);
	sock = has_time ? connect_or_wait(path) : connect_to(path, SOCK_SEQPACKET, TAKEN_TIMEOUT_S * 1000000);
	if (sock < 0)
		return;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.uid != geteuid() ||
	    (has_time && keep_input(&input) < 0) || send_request(sock, key, argc, argv, input) < 0 ||
	    await_taken(sock, lock, has_time ? BOOT_TIMEOUT_S : TAKEN_TIMEOUT_S) < 0) {
		close(sock);
		return;
	}
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
	while (((got = recv(sock, answer, sizeof answer, 0)) < 0 && errno == EINTR) || (got > 0 && answer[0] == 'w'))
		if (got > 0)
			write_all(2, answer + 1, got - 1);
	close(sock);
	if (got < 1 || (answer[0] != '+' && answer[0] != '-'))
		return; /* the process that took the request has ended */
	if (answer[0] == '+') {
		write_all(1, answer + 1, got - 1);
		_exit(0);
	}
	write_all(2, NAME ": ", strlen(NAME ": "));
	write_all(2, answer + 1, got - 1);
	write_all(2, "\n", 1);
	_exit(1);
}
