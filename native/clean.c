/* `delete` of a container that has left nothing behind. shim/pod/cleanup.py knows what could be left. */
#include "shim.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define PROBE_TIMEOUT_US 100000
#define KILLED 137

/* Whether the bundle names a socket that a living process listens on, or a socket that is gone. */
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

/*
 * Whether the shim's own bundle of this member of the sandbox `sandbox` is gone (runtime/members.py). Also 0 if
 * `sandbox` is no identifier of the usual form.
 */
static int is_gone_member(const struct given *given, const char *sandbox)
{
	char path[PATH_MAX];
	return is_plain(sandbox) && FITS(path, RUN "/pods/%s/%s/%s", given->namespace, sandbox, given->id) &&
	       is_missing(path);
}

static int is_clean(const struct given *given, const char *bundle)
{
	char path[PATH_MAX], sandbox[80];
	struct stat above, rootfs;
	if (!FITS(path, "%s/pouchrich.json", bundle) || !is_missing(path) ||
	    !FITS(path, RECORDS "/%s/%s.jsonl", given->namespace, given->id) || !is_missing(path) ||
	    !FITS(path, RUN "/bundles/%s/%s", given->namespace, given->id) || !is_missing(path) ||
	    !FITS(path, RUN "/pods/%s/%s", given->namespace, given->id) || !is_missing(path) ||
	    !FITS(path, "%s/rootfs", bundle) || lstat(bundle, &above) < 0)
		return 0;
	if (lstat(path, &rootfs) < 0 ? errno != ENOENT : rootfs.st_dev != above.st_dev)
		return 0;
	if (!FITS(path, "%s/sandbox", bundle) || read_text(path, sandbox, sizeof sandbox) < 0)
		return 0;
	return sandbox[0] ? is_gone_member(given, sandbox) : has_living_server(bundle); /* the server is the sandbox's */
}

static unsigned char *put_varint(unsigned char *to, uint64_t number)
{
	for (; number >= 0x80; number >>= 7)
		*to++ = number | 0x80;
	*to++ = number;
	return to;
}

/* Appends one field of type varint. proto3 omits zero values. */
static unsigned char *put(unsigned char *to, int field, uint64_t number)
{
	if (number == 0)
		return to;
	*to++ = field << 3;
	return put_varint(to, number);
}

int answer_delete(int argc, char **argv)
{
	struct given given = {"", "", ""};
	unsigned char answer[64], stamp[32], *end = answer, *stamp_end = stamp;
	char path[PATH_MAX], text[33];
	const char *bundle;
	struct timespec now;
	long pid = 0;
	if (parse(argc, argv, &given) < 0 || !is_plain(given.namespace) || !is_plain(given.id))
		return -1; /* the script reports the error, or accepts a name of an unusual form */
	bundle = given.bundle[0] ? given.bundle : ".";
	if (!is_clean(&given, bundle))
		return 0;
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
