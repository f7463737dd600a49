#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

int write_all(int fd, const char *data, size_t size)
{
	ssize_t written;
	while (size > 0) {
		written = write(fd, data, size);
		if (written < 0 && errno != EINTR)
			return -1;
		if (written > 0) {
			data += written;
			size -= written;
		}
	}
	return 0;
}

/* Reads the beginning of a file as text, "" where it is missing; -1 where it cannot be read. */
int read_text(const char *path, char *text, size_t size)
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

int is_missing(const char *path)
{
	struct stat found;
	return lstat(path, &found) < 0 && errno == ENOENT;
}
