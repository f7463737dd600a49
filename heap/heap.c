/*
 * Shares a process's memory with the processes forked from it, and shares it again where they have restored it.
 *
 * Reference counts go up and down: most of the pages that a forked Python process had to copy hold, once the process is
 * idle, what they held before. Anonymous memory, once copied, stays copied. So heap_share first puts the memory into a
 * file and maps that privately: the same contents at the same addresses, copied on write as before. heap_give_back then
 * drops each page that equals the file's; the next access reads the file's page again (madvise(2), MADV_DONTNEED on a
 * private file mapping).
 *
 * Nothing else may run in the process during heap_share and heap_give_back: the process's only thread calls them, and
 * they block signals. They allocate nothing, and write only to their stack and the variables below.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8 /* Linux 6.3 */
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

#define ALIGNMENT 16
#define SMALL 512 /* the largest size that the interpreter does not pass on to the C library */
#define LARGE 65536
#define POOL 16384
#define POOL_HEADER 48
#define IN_ORDER 6
#define LIMIT (1 << 20)

#define RANGES 64
#define ENTRIES 512 /* of a page map, read at once */

/* Documentation/admin-guide/mm/pagemap.rst */
#define PRESENT (1ULL << 63)
#define OF_A_FILE (1ULL << 61)

extern void *PyObject_Malloc(size_t size);

static struct range {
    char *begin;
    size_t size;
    const char *kept; /* the same bytes of the file */
} ranges[RANGES];
static size_t shared;
static size_t page;

static int put(int fd, const char *begin, size_t size, off_t at)
{
    while (size) {
        ssize_t done = pwrite(fd, begin, size, at);
        if (done <= 0)
            return -1;
        begin += done;
        at += done;
        size -= done;
    }
    return 0;
}

/*
 * Put one range into the file and map it there. Nothing may change a byte between its pwrite(2) and the mmap(2).
 */
static int share(int fd, char *begin, size_t size, off_t at, const char *kept)
{
    if (put(fd, begin, size, at) < 0)
        return -1;
    if (mmap(begin, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, at) == MAP_FAILED)
        return -1;
    ranges[shared++] = (struct range){begin, size, kept + at};
    return 0;
}

/*
 * Share the `count` mappings of pairs (begin, end): whole pages, private, readable and writable. May be called once.
 * Returns 0, or a negated errno; what was shared before the error stays shared.
 */
int heap_share(const uintptr_t (*given)[2], size_t count)
{
    off_t at = 0;
    const char *kept;
    size_t size = 0, i;
    sigset_t all, before;
    int fd, error = 0;

    if (shared || !count || count > RANGES)
        return -EINVAL;
    page = sysconf(_SC_PAGESIZE);
    for (i = 0; i < count; i++)
        size += given[i][1] - given[i][0];
    fd = syscall(SYS_memfd_create, "pouchrich-heap", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = syscall(SYS_memfd_create, "pouchrich-heap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, size) < 0 || (kept = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        error = -errno;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    for (i = 0; !error && i < count; i++) {
        size = given[i][1] - given[i][0];
        if (share(fd, (char *)given[i][0], size, at, kept) < 0)
            error = -errno;
        at += size;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
    close(fd);
    return error;
}

/* Where the never used part of glibc's heap begins. NULL with other C libraries: no hole is searched for there. */
static char *top_of_heap(void)
{
#ifndef __GLIBC__
    return NULL;
#elif __GLIBC_PREREQ(2, 33)
    return (char *)sbrk(0) - mallinfo2().keepcost;
#else
    return (char *)sbrk(0) - (unsigned)mallinfo().keepcost;
#endif
}

/*
 * Take every hole that the allocators of the interpreter and the C library have left between objects, for good. What a
 * forked process makes is then on pages of its own, and not scattered over the shared ones.
 *
 * Both allocators use holes first. Small objects: the first block of a pool, and then those after it in order, only
 * come from a new pool (Objects/obmalloc.c, CPython 3.10 and later). If that is never seen, another allocator is at
 * work, and LIMIT ends the search. The C library: memory at or above the top was free before. Returns the number of
 * bytes taken.
 */
size_t heap_fill(void)
{
    char *top = top_of_heap(), *block, *last;
    size_t taken = 0, size, in_order, limit;

    for (size = ALIGNMENT; size <= SMALL; size += ALIGNMENT) {
        limit = taken + LIMIT;
        for (last = NULL, in_order = 0; in_order < IN_ORDER; last = block, taken += size) {
            if (taken > limit || !(block = PyObject_Malloc(size)))
                return taken;
            if ((uintptr_t)block % POOL == POOL_HEADER)
                in_order = 1;
            else if (in_order)
                in_order = block == last + size ? in_order + 1 : 0;
        }
    }
    for (size = LARGE; size > ALIGNMENT; size -= size > 2 * SMALL ? SMALL : ALIGNMENT) {
        limit = taken + LIMIT;
        while ((block = malloc(size)) && block < top && taken < limit)
            taken += size;
        free(block);
    }
    return taken;
}

/* Map the file's pages as if each had been read (madvise(2), Linux 5.14; before, each is mapped when it is read). */
void heap_map(void)
{
    size_t i;

    for (i = 0; i < shared; i++)
        madvise(ranges[i].begin, ranges[i].size, MADV_POPULATE_READ);
}

static long drop(char *begin, char *end)
{
    if (begin == end || madvise(begin, end - begin, MADV_DONTNEED) < 0)
        return 0;
    return (end - begin) / page;
}

static long give_back(const struct range *range, int pagemap)
{
    uint64_t entries[ENTRIES];
    size_t pages = range->size / page, done = 0, got, i;
    char *same = range->begin, *at = range->begin;
    long dropped = 0;

    while (done < pages) {
        size_t wanted = pages - done < ENTRIES ? pages - done : ENTRIES;
        ssize_t count = pread(pagemap, entries, wanted * 8, ((uintptr_t)range->begin / page + done) * 8);

        if (count <= 0)
            break;
        for (got = count / 8, i = 0; i < got; i++, at += page) {
            int copied = (entries[i] & PRESENT) && !(entries[i] & OF_A_FILE);

            if (!copied || memcmp(at, range->kept + (at - range->begin), page)) {
                dropped += drop(same, at);
                same = at + page;
            }
        }
        done += got;
    }
    return dropped + drop(same, at);
}

/* Drop every page whose content is again what was shared. Returns how many, or a negated errno. */
long heap_give_back(void)
{
    long dropped = 0;
    size_t i;
    sigset_t all, before;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

    if (pagemap < 0)
        return -errno;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    for (i = 0; i < shared; i++) {
        dropped += give_back(&ranges[i], pagemap);
        madvise((void *)ranges[i].kept, ranges[i].size, MADV_DONTNEED); /* only looked at: need not stay mapped */
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(pagemap);
    return dropped;
}
