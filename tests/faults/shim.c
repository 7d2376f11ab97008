/* One fault, at one system call: this library stands in front of the C library (LD_PRELOAD) in a process that is to be
 * hurt. It counts the calls that concern files below one folder, and sockets, and at the n-th of the chosen kinds does
 * what the page says: kill the process just after it or in the middle of it, answer with an error instead, do half of
 * it, or stop the process so that somebody can change the world around it.
 *
 * The page is a file mapped by both sides: who watches sets `mode` last and may change it at any time. Its layout is
 * that of `Page` in faults/page.py. Nothing is counted before `ftx_fault_map()` has been called.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OFF, COUNT, KILL, TEAR, ERROR, ERRORS, SHORT, STOP };
enum {
	CREATE, OPEN, WRITE, PWRITE, FTRUNCATE, FALLOCATE, COPY, FSYNC, FDATASYNC, SYNCFS, LINK, RENAME, MKDIR, UNLINK,
	UTIMENS, CHMOD, SYMLINK, CLOSE, READ, PREAD, SEND, RECV, FLOCK
};
enum { ENTRIES = 8192, PATH_KEPT = 120, PREFIX = 256 };

struct entry {
	uint32_t kind;
	int32_t bytes;
	char path[PATH_KEPT];
};

struct page {
	uint32_t mode;
	uint32_t nth;      /* from 1 */
	uint32_t kinds;    /* a bit for each kind that counts */
	int32_t number;    /* errno */
	uint32_t calls;    /* that counted, so far */
	uint32_t struck;   /* faults so far */
	uint32_t prefix_length;
	int32_t later;     /* seconds that its clock is ahead */
	int32_t pid;       /* of the process that was struck last */
	uint32_t unused;
	char prefix[PREFIX];
	struct entry trace[ENTRIES];
};

static struct page *page;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);
	if (!found)
		_exit(99);
	return found;
}

int ftx_fault_map(const char *path)
{
	int fd = (int)REAL(syscall)(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	void *found = mmap(0, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	REAL(close)(fd);
	if (found == MAP_FAILED)
		return -1;
	page = found;
	return 0;
}

/* Where `path` of the folder `dir` lies, or what `dir` is when `path` is null or empty. */
static int place(int dir, const char *path, char *into, size_t size)
{
	char link[32];
	size_t used = 0;
	if (path && path[0] == '/') {
		if (!strncmp(path, "/proc/self/fd/", 14)) { /* a file by its descriptor, or a name in a folder held so */
			const char *rest = strchr(path + 14, '/');
			snprintf(link, sizeof link, "/proc/self/fd/%d", atoi(path + 14));
			ssize_t got = readlink(link, into, size - 1);
			if (got < 0)
				return 0;
			into[got] = 0;
			if (rest)
				strncat(into, rest, size - (size_t)got - 1);
			return 1;
		}
		snprintf(into, size, "%s", path);
		return 1;
	}
	if (dir == AT_FDCWD) {
		if (!getcwd(into, size))
			return 0;
		used = strlen(into);
	} else {
		snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
		ssize_t got = readlink(link, into, size - 1);
		if (got < 0)
			return 0;
		used = (size_t)got;
		into[used] = 0;
	}
	if (path && path[0] && used + 2 < size)
		snprintf(into + used, size - used, "/%s", path);
	return 1;
}

/* Whether this call is the one: 0 when it is to be carried out and nothing else, or the mode. */
static uint32_t strikes(int kind, int dir, const char *path, ssize_t bytes)
{
	if (!page || page->mode == OFF || !(page->kinds & (1u << kind)))
		return 0;
	if (!path && dir >= 0 && dir <= 2)
		return 0;
	char where[4096];
	int before = errno;
	if (!place(dir, path, where, sizeof where)) {
		errno = before;
		return 0;
	}
	errno = before;
	if (kind == SEND || kind == RECV) {
		if (strncmp(where, "socket:", 7))
			return 0;
	} else if (strncmp(where, page->prefix, page->prefix_length))
		return 0;
	uint32_t call = __atomic_add_fetch(&page->calls, 1, __ATOMIC_SEQ_CST);
	if (call <= ENTRIES) {
		struct entry *entry = &page->trace[call - 1];
		entry->kind = (uint32_t)kind;
		entry->bytes = (int32_t)bytes;
		const char *shown = where + (strlen(where) > page->prefix_length ? page->prefix_length : 0);
		snprintf(entry->path, PATH_KEPT, "%.*s", PATH_KEPT - 1, shown);
	}
	uint32_t mode = page->mode;
	if (mode == COUNT || (mode == ERRORS ? call < page->nth : call != page->nth))
		return 0;
	page->pid = getpid();
	__atomic_add_fetch(&page->struck, 1, __ATOMIC_SEQ_CST);
	return mode;
}

static void end(void)
{
	REAL(kill)(getpid(), SIGKILL);
	for (;;)
		pause();
}

/* What follows a call that was carried out. */
static void after(uint32_t mode)
{
	int before = errno;
	if (mode == KILL || mode == TEAR)
		end();
	if (mode == STOP)
		REAL(kill)(getpid(), SIGSTOP);
	errno = before;
}

#define FAILS(mode) ((mode) == ERROR || (mode) == ERRORS)

/* A call that is carried out or not. */
#define GUARDED(kind, dir, path, call)                                                                                 \
	uint32_t mode = strikes(kind, dir, path, 0);                                                                   \
	if (FAILS(mode)) {                                                                                             \
		errno = page->number;                                                                                  \
		return -1;                                                                                             \
	}                                                                                                              \
	__auto_type result = call;                                                                                     \
	if (mode)                                                                                                      \
		after(mode);                                                                                           \
	return result;

/* A call that may be half done. `length` is the variable that the call takes. */
#define PARTLY(kind, fd, length, call)                                                                                 \
	uint32_t mode = strikes(kind, fd, 0, (ssize_t)(length));                                                       \
	if (FAILS(mode)) {                                                                                             \
		errno = page->number;                                                                                  \
		return -1;                                                                                             \
	}                                                                                                              \
	if (mode == TEAR || mode == SHORT)                                                                             \
		length = ((length) + 1) / 2;                                                                           \
	__auto_type result = call;                                                                                     \
	if (mode)                                                                                                      \
		after(mode);                                                                                           \
	return result;

static int creates(int flags) { return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; }
static int opening(uint64_t flags) { return creates((int)flags) ? CREATE : OPEN; }

#define OPENING(dir, path, flags, call)                                                                                \
	mode_t bits = 0;                                                                                               \
	if (creates(flags)) {                                                                                          \
		va_list list;                                                                                          \
		va_start(list, flags);                                                                                 \
		bits = va_arg(list, mode_t);                                                                           \
		va_end(list);                                                                                          \
	}                                                                                                              \
	GUARDED(opening((uint64_t)flags), dir, path, call)

int open(const char *path, int flags, ...) { OPENING(AT_FDCWD, path, flags, REAL(open)(path, flags, bits)) }
int open64(const char *path, int flags, ...) { OPENING(AT_FDCWD, path, flags, REAL(open64)(path, flags, bits)) }
int openat(int dir, const char *path, int flags, ...) { OPENING(dir, path, flags, REAL(openat)(dir, path, flags, bits)) }
int openat64(int dir, const char *path, int flags, ...)
{
	OPENING(dir, path, flags, REAL(openat64)(dir, path, flags, bits))
}

static int is_socket(int fd)
{
	struct stat found;
	return page && page->mode != OFF && !fstat(fd, &found) && S_ISSOCK(found.st_mode);
}

ssize_t write(int fd, const void *data, size_t length)
{
	PARTLY(is_socket(fd) ? SEND : WRITE, fd, length, REAL(write)(fd, data, length))
}
ssize_t read(int fd, void *data, size_t length)
{
	PARTLY(is_socket(fd) ? RECV : READ, fd, length, REAL(read)(fd, data, length))
}
ssize_t send(int fd, const void *data, size_t length, int flags)
{
	PARTLY(SEND, fd, length, REAL(send)(fd, data, length, flags))
}
ssize_t recv(int fd, void *data, size_t length, int flags)
{
	PARTLY(RECV, fd, length, REAL(recv)(fd, data, length, flags))
}
ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t size)
{
	PARTLY(SEND, fd, length, REAL(sendto)(fd, data, length, flags, to, size))
}
ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	GUARDED(SEND, fd, 0, REAL(sendmsg)(fd, message, flags))
}

#define AT(name, kind, buffer, offset)                                                                                 \
	ssize_t name(int fd, buffer data, size_t length, offset at) { PARTLY(kind, fd, length, REAL(name)(fd, data, length, at)) }
AT(pwrite, PWRITE, const void *, off_t)
AT(pwrite64, PWRITE, const void *, off64_t)
AT(pread, PREAD, void *, off_t)
AT(pread64, PREAD, void *, off64_t)

/* Half of a list of buffers: the first ones, and half of what is left for the last of them. */
static int half(const struct iovec *from, int count, struct iovec *into)
{
	size_t total = 0, wanted;
	int kept = 0;
	for (int i = 0; i < count; i++)
		total += from[i].iov_len;
	for (wanted = (total + 1) / 2; kept < count && wanted; kept++) {
		into[kept] = from[kept];
		if (into[kept].iov_len > wanted)
			into[kept].iov_len = wanted;
		wanted -= into[kept].iov_len;
	}
	return kept;
}

#define VECTOR(kind, call)                                                                                             \
	uint32_t mode = strikes(kind, fd, 0, count);                                                                   \
	struct iovec halves[64];                                                                                       \
	if (FAILS(mode)) {                                                                                             \
		errno = page->number;                                                                                  \
		return -1;                                                                                             \
	}                                                                                                              \
	if ((mode == TEAR || mode == SHORT) && count <= 64) {                                                          \
		count = half(list, count, halves);                                                                     \
		list = halves;                                                                                         \
	}                                                                                                              \
	ssize_t result = call;                                                                                         \
	if (mode)                                                                                                      \
		after(mode);                                                                                           \
	return result;

ssize_t writev(int fd, const struct iovec *list, int count)
{
	VECTOR(is_socket(fd) ? SEND : WRITE, REAL(writev)(fd, list, count))
}
ssize_t readv(int fd, const struct iovec *list, int count)
{
	VECTOR(is_socket(fd) ? RECV : READ, REAL(readv)(fd, list, count))
}
#define VECTOR_AT(name, kind, offset)                                                                                  \
	ssize_t name(int fd, const struct iovec *list, int count, offset at) { VECTOR(kind, REAL(name)(fd, list, count, at)) }
#define VECTOR_FLAGS(name, kind, offset)                                                                               \
	ssize_t name(int fd, const struct iovec *list, int count, offset at, int flags)                                \
	{                                                                                                              \
		VECTOR(kind, REAL(name)(fd, list, count, at, flags))                                                   \
	}
VECTOR_AT(pwritev, PWRITE, off_t)
VECTOR_AT(pwritev64, PWRITE, off64_t)
VECTOR_FLAGS(pwritev2, PWRITE, off_t)
VECTOR_FLAGS(pwritev64v2, PWRITE, off64_t)
VECTOR_AT(preadv, PREAD, off_t)
VECTOR_AT(preadv64, PREAD, off64_t)
VECTOR_FLAGS(preadv2, PREAD, off_t)
VECTOR_FLAGS(preadv64v2, PREAD, off64_t)

int fsync(int fd) { GUARDED(FSYNC, fd, 0, REAL(fsync)(fd)) }
int fdatasync(int fd) { GUARDED(FDATASYNC, fd, 0, REAL(fdatasync)(fd)) }
int syncfs(int fd) { GUARDED(SYNCFS, fd, 0, REAL(syncfs)(fd)) }
int ftruncate(int fd, off_t size) { GUARDED(FTRUNCATE, fd, 0, REAL(ftruncate)(fd, size)) }
int ftruncate64(int fd, off64_t size) { GUARDED(FTRUNCATE, fd, 0, REAL(ftruncate64)(fd, size)) }
int fallocate(int fd, int how, off_t at, off_t size) { GUARDED(FALLOCATE, fd, 0, REAL(fallocate)(fd, how, at, size)) }
int fallocate64(int fd, int how, off64_t at, off64_t size)
{
	GUARDED(FALLOCATE, fd, 0, REAL(fallocate64)(fd, how, at, size))
}
int ioctl(int fd, unsigned long request, ...)
{
	va_list rest;
	void *argument;

	va_start(rest, request);
	argument = va_arg(rest, void *);
	va_end(rest);
	if (request != FICLONERANGE)
		return REAL(ioctl)(fd, request, argument);
	GUARDED(COPY, fd, 0, REAL(ioctl)(fd, request, argument))
}
int link(const char *from, const char *to) { GUARDED(LINK, AT_FDCWD, to, REAL(link)(from, to)) }
int linkat(int from_dir, const char *from, int dir, const char *to, int flags)
{
	GUARDED(LINK, dir, to, REAL(linkat)(from_dir, from, dir, to, flags))
}
int rename(const char *from, const char *to) { GUARDED(RENAME, AT_FDCWD, to, REAL(rename)(from, to)) }
int renameat(int from_dir, const char *from, int dir, const char *to)
{
	GUARDED(RENAME, dir, to, REAL(renameat)(from_dir, from, dir, to))
}
int renameat2(int from_dir, const char *from, int dir, const char *to, unsigned int flags)
{
	GUARDED(RENAME, dir, to, REAL(renameat2)(from_dir, from, dir, to, flags))
}
int mkdir(const char *path, mode_t bits) { GUARDED(MKDIR, AT_FDCWD, path, REAL(mkdir)(path, bits)) }
int mkdirat(int dir, const char *path, mode_t bits) { GUARDED(MKDIR, dir, path, REAL(mkdirat)(dir, path, bits)) }
int unlink(const char *path) { GUARDED(UNLINK, AT_FDCWD, path, REAL(unlink)(path)) }
int rmdir(const char *path) { GUARDED(UNLINK, AT_FDCWD, path, REAL(rmdir)(path)) }
int unlinkat(int dir, const char *path, int flags) { GUARDED(UNLINK, dir, path, REAL(unlinkat)(dir, path, flags)) }
int symlink(const char *target, const char *path) { GUARDED(SYMLINK, AT_FDCWD, path, REAL(symlink)(target, path)) }
int symlinkat(const char *target, int dir, const char *path)
{
	GUARDED(SYMLINK, dir, path, REAL(symlinkat)(target, dir, path))
}
int utimensat(int dir, const char *path, const struct timespec times[2], int flags)
{
	GUARDED(UTIMENS, dir, path, REAL(utimensat)(dir, path, times, flags))
}
int futimens(int fd, const struct timespec times[2]) { GUARDED(UTIMENS, fd, 0, REAL(futimens)(fd, times)) }
int chmod(const char *path, mode_t bits) { GUARDED(CHMOD, AT_FDCWD, path, REAL(chmod)(path, bits)) }
int fchmod(int fd, mode_t bits) { GUARDED(CHMOD, fd, 0, REAL(fchmod)(fd, bits)) }
int fchmodat(int dir, const char *path, mode_t bits, int flags)
{
	GUARDED(CHMOD, dir, path, REAL(fchmodat)(dir, path, bits, flags))
}
int flock(int fd, int operation) { GUARDED(FLOCK, fd, 0, REAL(flock)(fd, operation)) }

/* Lets go of the descriptor whatever it says, as Linux does. */
int close(int fd)
{
	uint32_t mode = strikes(CLOSE, fd, 0, 0);
	int result = REAL(close)(fd);
	if (FAILS(mode)) {
		errno = page->number;
		return -1;
	}
	if (mode)
		after(mode);
	return result;
}

/* Another day. */
int clock_gettime(clockid_t clock, struct timespec *found)
{
	int result = REAL(clock_gettime)(clock, found);
	if (!result && page && clock == CLOCK_REALTIME)
		found->tv_sec += page->later;
	return result;
}

/* What has no function of its own in the C library is called by number. */
long syscall(long number, ...)
{
	va_list list;
	va_start(list, number);
	long a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long);
	long d = va_arg(list, long), e = va_arg(list, long), f = va_arg(list, long);
	va_end(list);
	__typeof__(&syscall) call = REAL(syscall);
	if (number == SYS_openat2) {
		GUARDED(opening(((struct open_how *)c)->flags), (int)a, (const char *)b, call(number, a, b, c, d, e, f))
	}
	if (number == SYS_renameat2) {
		GUARDED(RENAME, (int)c, (const char *)d, call(number, a, b, c, d, e, f))
	}
	if (number == SYS_syncfs) {
		GUARDED(SYNCFS, (int)a, 0, call(number, a, b, c, d, e, f))
	}
	return call(number, a, b, c, d, e, f);
}
