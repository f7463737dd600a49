/*
 * containerd-shim-pouchrich-v2: `start` and `delete` where there is next to nothing to do, without an interpreter.
 *
 *   ... start    hands the request to the node's spawner and prints its answer (shim/spawner/request.py has the form)
 *   ... delete   answers for a container of which nothing is left (shim/manager/delete.py says what could be)
 *
 * Whatever else is asked, and whatever is not as expected, is for the script beside this program, of the same name with
 * `.py`, which does all of it and has the same arguments, environment, working directory and standard input. So this
 * program has no errors of its own but one: that there is no such script.
 *
 * It is SITE/runtime/libexec/containerd-shim-pouchrich-v2, and the code SITE/shim; `python3` beside it is the
 * interpreter that runs it. Both are part of the spawner's key.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NAME "containerd-shim-pouchrich-v2"
#define RUN "/run/pouchrich"
#define RECORDS "/var/lib/pouchrich/poststop"
#define TAKEN_TIMEOUT_S 1
#define BOOT_TIMEOUT_S 10
#define PROBE_TIMEOUT_US 100000
#define ANSWER_LIMIT 65536
#define KILLED 137
#define PF_EXITING 0x4 /* include/linux/sched.h, field 9 of /proc/PID/stat */

extern char **environ;

static char here[PATH_MAX]; /* the directory of this program, and of the script */

/* Whether `format` made a text that fits. */
#define FITS(room, ...) ((size_t)snprintf(room, sizeof room, __VA_ARGS__) < sizeof room)

static void write_all(int fd, const char *data, size_t size)
{
	ssize_t written;
	while (size > 0) {
		written = write(fd, data, size);
		if (written < 0 && errno != EINTR)
			return; /* containerd has gone */
		if (written > 0) {
			data += written;
			size -= written;
		}
	}
}

/* The file's beginning as text, "" where it is missing; -1 where it cannot be read. */
static int read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	text[0] = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : -1;
	got = read(fd, text, size - 1);
	close(fd);
	if (got < 0)
		return -1;
	text[got] = 0;
	return 0;
}

static int connect_to(const char *path, int kind, long timeout_us)
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

/* start ------------------------------------------------------------------------------------------------------------ */

/* Standard input, in a file that can be read again. -1 where that cannot be had: nothing was read then, or all is lost. */
static int keep_input(size_t *size)
{
	static char data[65536];
	ssize_t got;
	int fd = memfd_create("stdin", 0);
	*size = 0;
	if (fd < 0)
		return -1;
	while ((got = read(0, data, sizeof data)) > 0) {
		write_all(fd, data, got);
		*size += got;
	}
	lseek(fd, 0, SEEK_SET);
	dup2(fd, 0);
	close(fd);
	return got < 0 ? -1 : 0;
}

/* What shim.spawner.request.key says, to be kept the same. */
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

/* Whether the spawner with this lock file has served for as long as one may take to answer, or there is none. */
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

/* Returns 0 once the request is taken, and -1 after making sure that it never will be. */
static int await_taken(int sock, const char *lock)
{
	char word[ANSWER_LIMIT];
	ssize_t got;
	int waited_s = 0;
	do
		got = recv(sock, word, sizeof word, 0);
	while (got < 0 && errno == EAGAIN && (waited_s += TAKEN_TIMEOUT_S) < BOOT_TIMEOUT_S && !has_served(lock));
	if (got < 0 && errno == EAGAIN) {
		/* From here on TAKEN cannot be sent any more (EPIPE); if it was sent before, it is there to be read. */
		shutdown(sock, SHUT_RDWR);
		got = recv(sock, word, sizeof word, 0);
	}
	return got == 1 && word[0] == 't' ? 0 : -1;
}

static void start(int argc, char **argv)
{
	char key[1024], path[64], lock[72], answer[ANSWER_LIMIT];
	const char *allowed = getenv("POUCHRICH_SPAWNER");
	const struct timeval forever = {0};
	struct ucred peer;
	socklen_t length = sizeof peer;
	size_t input;
	ssize_t got;
	int sock;
	if ((allowed && !strcmp(allowed, "off")) || make_key(key, sizeof key) < 0)
		return;
	snprintf(path, sizeof path, RUN "/spawner-%016llx.sock", (unsigned long long)hash(key));
	snprintf(lock, sizeof lock, "%s.lock", path);
	sock = connect_to(path, SOCK_SEQPACKET, TAKEN_TIMEOUT_S * 1000000);
	if (sock < 0)
		return;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.uid != geteuid() ||
	    keep_input(&input) < 0 || send_request(sock, key, argc, argv, input) < 0 || await_taken(sock, lock) < 0) {
		close(sock);
		return;
	}
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof forever);
	while ((got = recv(sock, answer, sizeof answer, 0)) < 0 && errno == EINTR)
		;
	close(sock);
	if (got < 1 || (answer[0] != '+' && answer[0] != '-'))
		return; /* who took the request has ended */
	if (answer[0] == '+') {
		write_all(1, answer + 1, got - 1);
		_exit(0);
	}
	write_all(2, NAME ": ", strlen(NAME ": "));
	write_all(2, answer + 1, got - 1);
	write_all(2, "\n", 1);
	_exit(1);
}

/* delete ----------------------------------------------------------------------------------------------------------- */

struct given {
	const char *namespace, *id, *bundle;
};

/* The flags as shim/contract/flags.py reads them; -1 for anything that is not everyday. */
static int parse(int argc, char **argv, struct given *given)
{
	static const char *others[] = {"address", "publish-binary", "socket", "debug-socket"};
	size_t length, i;
	char *word, *value;
	int at;
	for (at = 1; at < argc - 1; at++) {
		word = argv[at];
		if (word[0] != '-')
			return -1;
		word += word[1] == '-' ? 2 : 1;
		if (!strcmp(word, "debug"))
			continue;
		length = strcspn(word, "=");
		value = word[length] ? word + length + 1 : ++at < argc - 1 ? argv[at] : NULL;
		if (!value)
			return -1;
#define IS(name) (length == strlen(name) && !strncmp(word, name, length))
		if (IS("namespace"))
			given->namespace = value;
		else if (IS("id"))
			given->id = value;
		else if (IS("bundle"))
			given->bundle = value;
		else {
			for (i = 0; i < sizeof others / sizeof *others && !IS(others[i]); i++)
				;
			if (i == sizeof others / sizeof *others)
				return -1;
		}
	}
	return 0;
}

static int is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Whether it is an identifier of the usual kind; a few more are allowed (shim/contract/identifiers.py). */
static int is_plain(const char *name)
{
	size_t i, length = strlen(name);
	if (length == 0 || length > 76 || !is_letter_or_digit(name[length - 1]))
		return 0;
	for (i = 0; i < length; i++)
		if (!is_letter_or_digit(name[i]) &&
		    (i == 0 || !strchr("-_.", name[i]) || !is_letter_or_digit(name[i - 1])))
			return 0;
	return 1;
}

static int is_missing(const char *path)
{
	struct stat found;
	return lstat(path, &found) < 0 && errno == ENOENT;
}

/* Whether the process that listened for a connection lives; one in a pid namespace that is not seen from here does. */
static int peer_lives(int sock)
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

/* Whether the bundle names a socket, and somebody who lives listens there or it is gone. */
static int has_living_server(const char *bundle)
{
	char path[PATH_MAX], text[4096], *address = text;
	int sock, lives;
	if (!FITS(path, "%s/address", bundle) || read_text(path, text, sizeof text) < 0 || !text[0])
		return 0;
	if (!strncmp(text, "unix://", 7))
		address += 7;
	if (address[0] != '/' || is_missing(address))
		return 1;
	sock = connect_to(address, SOCK_STREAM, PROBE_TIMEOUT_US);
	if (sock < 0)
		return 0;
	lives = peer_lives(sock);
	close(sock);
	return lives;
}

static int is_clean(const struct given *given, const char *bundle)
{
	char path[PATH_MAX];
	struct stat above, rootfs;
	if (!FITS(path, "%s/pouchrich.json", bundle) || !is_missing(path) ||
	    !FITS(path, RECORDS "/%s/%s.jsonl", given->namespace, given->id) || !is_missing(path) ||
	    !FITS(path, RUN "/bundles/%s/%s", given->namespace, given->id) || !is_missing(path) ||
	    !FITS(path, "%s/rootfs", bundle) || lstat(bundle, &above) < 0)
		return 0;
	if (lstat(path, &rootfs) < 0 ? errno != ENOENT : rootfs.st_dev != above.st_dev)
		return 0;
	return has_living_server(bundle);
}

static unsigned char *put_varint(unsigned char *to, uint64_t number)
{
	for (; number >= 0x80; number >>= 7)
		*to++ = number | 0x80;
	*to++ = number;
	return to;
}

/* One field of type varint; proto3 leaves out what is zero. */
static unsigned char *put(unsigned char *to, int field, uint64_t number)
{
	if (number == 0)
		return to;
	*to++ = field << 3;
	return put_varint(to, number);
}

static void answer_delete(int argc, char **argv)
{
	struct given given = {"", "", ""};
	unsigned char answer[64], stamp[32], *end = answer, *stamp_end = stamp;
	char path[PATH_MAX], text[33];
	const char *bundle;
	struct timespec now;
	long pid = 0;
	if (parse(argc, argv, &given) < 0 || !is_plain(given.namespace) || !is_plain(given.id))
		return; /* for the error, or a name with a separator too many */
	bundle = given.bundle[0] ? given.bundle : ".";
	if (!is_clean(&given, bundle))
		return;
	if (FITS(path, "%s/init.pid", bundle) && read_text(path, text, sizeof text) == 0)
		pid = strtol(text, NULL, 10);
	clock_gettime(CLOCK_REALTIME, &now);
	stamp_end = put(stamp_end, 1, now.tv_sec);
	stamp_end = put(stamp_end, 2, now.tv_nsec);
	end = put(end, 1, pid > 0 ? pid : 0);
	end = put(end, 2, KILLED);
	*end++ = 3 << 3 | 2;
	end = put_varint(end, stamp_end - stamp);
	memcpy(end, stamp, stamp_end - stamp);
	write_all(1, (char *)answer, end - answer + (stamp_end - stamp));
	_exit(0);
}

int main(int argc, char **argv)
{
	char script[PATH_MAX];
	const char *action = argc > 1 ? argv[argc - 1] : "";
	ssize_t length = readlink("/proc/self/exe", here, sizeof here - 1);
	if (length <= 0 || !FITS(script, "%s.py", here)) {
		dprintf(2, NAME ": /proc/self/exe: %s\n", strerror(errno));
		return 1;
	}
	*strrchr(here, '/') = 0;
	if (!strcmp(action, "start"))
		start(argc, argv);
	if (!strcmp(action, "delete"))
		answer_delete(argc, argv);
	execv(script, argv);
	dprintf(2, NAME ": %s: %s\n", script, strerror(errno));
	return 1;
}
