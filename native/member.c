/*
 * `start` of a further container of a pod whose server is there: containerd is to connect to that.
 *
 * The pod is the one that the CRI's annotation in config.json names, its server's address in the file that `start` left
 * in the sandbox's bundle, beside this one (containerd: STATE/io.containerd.runtime.v2.task/NAMESPACE/ID).
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define ANNOTATIONS "annotations"
#define SANDBOX_ID "io.kubernetes.cri.sandbox-id"
#define OTHER_GROUP "io.containerd.runc.v2.group" /* counts before that one */
#define SPEC_LIMIT (1 << 20)
#define SCHEME "unix://"
#define PROBE_TIMEOUT_US 100000

struct text {
	const char *at;
	size_t length;
};

static int is(struct text text, const char *word)
{
	return text.length == strlen(word) && !memcmp(text.at, word, text.length);
}

/* The JSON string whose opening quote is at `quote`, as it is written; `at` NULL where it does not end. */
static struct text string_at(const char *quote, const char *end)
{
	const char *at;
	for (at = quote + 1; at < end && *at != '"'; at++)
		if (*at == '\\')
			at++;
	return at < end ? (struct text){quote + 1, at - quote - 1} : (struct text){NULL, 0};
}

/*
 * The value of the annotation SANDBOX_ID in the OCI configuration `spec`. -1 where there is not just one, written
 * without escapes, as the value of a key of the object `annotations` of the outermost object.
 */
static int find_sandbox(struct text spec, char *sandbox, size_t size)
{
	const char *at, *end = spec.at + spec.length;
	struct text string, key = {NULL, 0};
	int depth = 0, is_value = 0, is_inside = 0, found = 0;
	for (at = spec.at; at < end; at++) {
		switch (*at) {
		case '{':
		case '[':
			if (++depth == 2)
				is_inside = *at == '{' && is_value && is(key, ANNOTATIONS);
			is_value = 0;
			break;
		case '}':
		case ']':
			depth--;
			break;
		case ':':
			is_value = 1;
			break;
		case ',':
			is_value = 0;
			break;
		case '"':
			string = string_at(at, end);
			if (!string.at)
				return -1;
			if (!is_value)
				key = string;
			else if (depth == 2 && is_inside && is(key, SANDBOX_ID)) {
				found++;
				if (string.length >= size)
					return -1;
				memcpy(sandbox, string.at, string.length);
				sandbox[string.length] = 0;
			}
			at = string.at + string.length;
		}
	}
	return depth == 0 && found == 1 ? 0 : -1;
}

/* The id of this bundle's pod; -1 where it is not plainly said. */
static int read_sandbox(char *sandbox, size_t size)
{
	struct stat found;
	int status = -1, fd = open("config.json", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	if (fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && found.st_size > 0 && found.st_size <= SPEC_LIMIT) {
		char *data = mmap(NULL, found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (data != MAP_FAILED && !memmem(data, found.st_size, OTHER_GROUP, strlen(OTHER_GROUP)))
			status = find_sandbox((struct text){data, found.st_size}, sandbox, size);
	}
	close(fd);
	return status;
}

/* Whether a server of our own user's listens there and lives. */
static int is_served(const char *path)
{
	struct ucred peer;
	socklen_t length = sizeof peer;
	int is, sock = connect_to(path, SOCK_STREAM, PROBE_TIMEOUT_US);
	if (sock < 0)
		return 0;
	is = getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid == geteuid() &&
	     peer_lives(sock);
	close(sock);
	return is;
}

/* Leave the address in this bundle, where containerd 1.x looks for it when it starts again. */
static int write_address(const char *address)
{
	int status, fd = open(".address", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -1;
	status = write_all(fd, address, strlen(address));
	close(fd);
	if (status == 0)
		status = rename(".address", "address");
	if (status < 0)
		unlink(".address");
	return status;
}

void join_pod(int argc, char **argv)
{
	struct given given = {"", "", "", ""};
	char sandbox[80], path[96], address[512];
	if (parse(argc, argv, &given) < 0 || given.socket[0] || !is_plain(given.namespace) || !is_plain(given.id) ||
	    read_sandbox(sandbox, sizeof sandbox) < 0 || !is_plain(sandbox) || !strcmp(sandbox, given.id) ||
	    !FITS(path, "../%s/address", sandbox) || read_text(path, address, sizeof address) < 0 ||
	    strncmp(address, SCHEME "/", strlen(SCHEME "/")) || !is_served(address + strlen(SCHEME)) ||
	    write_address(address) < 0)
		return;
	write_all(1, address, strlen(address));
	_exit(0);
}
