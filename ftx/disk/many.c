/*
 * The system calls of many small files in one call, outside the interpreter.
 *
 * Each function works on a table of rows, one for each file, from the first on, and stops at the first for which
 * anything goes wrong; it returns how many are done. Nothing is decided here: who called does the next file by itself,
 * one system call after the other, finds out there what is wrong with it, and says so. A file that is not done leaves
 * nothing behind, neither a descriptor nor a name.
 *
 * Rows and functions are described in `many.py`, which must agree with this file; FTX_MANY counts the changes of either.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#define _TIME_BITS 64

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FTX_MANY 3
#define EXPORT __attribute__((visibility("default")))

enum { BILLION = 1000000000, RIGHTS = 07777 };

struct unnamed {
    int64_t mtime_ns; /* to be given, since 1970 */
    int64_t size;     /* bytes of the content */
    uint64_t inode;   /* from here on: found out */
    int64_t disk_ns;  /* the time that the file system keeps */
    uint32_t mode;    /* permission bits, to be given */
    int32_t folder;   /* that it can be linked into */
    int32_t fd;       /* found out */
    int32_t unused;
};

struct named {
    int64_t ctime_ns; /* found out, after it was linked */
    int32_t fd;
    int32_t folder;
    int32_t error; /* 0, or why it could not be looked at: it has its name nevertheless */
    int32_t unused;
};

struct seen {
    int64_t size;
    int64_t mtime_ns; /* both times: since 1970, or what is nearest to them */
    int64_t ctime_ns;
    uint64_t inode;
    uint32_t mode;
    uint32_t unused;
};

_Static_assert(sizeof(struct unnamed) == 48, "as in many.py");
_Static_assert(sizeof(struct named) == 24, "as in many.py");
_Static_assert(sizeof(struct seen) == 40, "as in many.py");
_Static_assert(sizeof(time_t) == 8, "or times beyond 2038 would be cut: without this library they are not");

static int64_t nanoseconds(struct timespec time)
{
    int64_t seconds = (int64_t)time.tv_sec, rest = (int64_t)time.tv_nsec, whole;
    if (seconds < 0) { /* towards zero: the product must not be less than the sum, which may be the least there is */
        seconds += 1;
        rest -= BILLION;
    }
    if (__builtin_mul_overflow(seconds, (int64_t)BILLION, &whole) || __builtin_add_overflow(whole, rest, &whole))
        return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return whole;
}

static struct timespec moment(int64_t since_1970)
{
    struct timespec time = {.tv_sec = (time_t)(since_1970 / BILLION), .tv_nsec = (long)(since_1970 % BILLION)};
    if (time.tv_nsec < 0) {
        time.tv_sec -= 1;
        time.tv_nsec += BILLION;
    }
    return time;
}

/* All that makes a file what it shall be, but for its name; 0 if everything went well. */
static int fill(struct unnamed *file, const char *content)
{
    struct timespec time = moment(file->mtime_ns), times[2] = {time, time};
    struct stat status;

    if (file->size > 0 && pwrite(file->fd, content, (size_t)file->size, 0) != file->size)
        return -1;
    if (futimens(file->fd, times) || fstat(file->fd, &status))
        return -1;
    if ((status.st_mode & RIGHTS) != file->mode) {
        if (fchmod(file->fd, (mode_t)file->mode) || fstat(file->fd, &status))
            return -1;
    }
    file->mode = (uint32_t)status.st_mode;
    file->inode = (uint64_t)status.st_ino;
    file->disk_ns = nanoseconds(status.st_mtim);
    return 0;
}

/*
 * Make unnamed files that can be linked into their folders, with contents that stand one behind the other in `content`,
 * which has `length` bytes.
 */
EXPORT long ftx_write_unnamed(struct unnamed *files, long count, const char *content, int64_t length)
{
    long done;

    for (done = 0; done < count; done++) {
        struct unnamed *file = files + done;
        if (file->size < 0 || file->size > length)
            break;
        file->fd = openat(file->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, (mode_t)file->mode);
        if (file->fd < 0)
            break;
        if (fill(file, content)) {
            close(file->fd);
            break;
        }
        content += file->size;
        length -= file->size;
    }
    return done;
}

/* Give open, unnamed files names in their folders; `names`, of `length` bytes, has each of them with a zero byte. */
EXPORT long ftx_link(struct named *files, long count, const char *names, int64_t length)
{
    long done;

    for (done = 0; done < count; done++) {
        struct named *file = files + done;
        const char *end = length > 0 ? memchr(names, 0, (size_t)length) : NULL;
        struct stat status;
        if (end == NULL || linkat(file->fd, "", file->folder, names, AT_EMPTY_PATH))
            break;
        if (fstat(file->fd, &status))
            file->error = errno;
        else
            file->ctime_ns = nanoseconds(status.st_ctim);
        length -= end + 1 - names;
        names = end + 1;
    }
    return done;
}

/* What is known of a file; 0 if it is a regular one. */
static int see(struct seen *file, const struct stat *status)
{
    file->size = status->st_size;
    file->mtime_ns = nanoseconds(status->st_mtim);
    file->ctime_ns = nanoseconds(status->st_ctim);
    file->inode = (uint64_t)status->st_ino;
    file->mode = (uint32_t)status->st_mode;
    return S_ISREG(status->st_mode) ? 0 : -1;
}

/* Look at regular files in `folder`; `names`, of `length` bytes, has the name of each with a zero byte. */
EXPORT long ftx_look(int folder, struct seen *files, long count, const char *names, int64_t length)
{
    long done;

    for (done = 0; done < count; done++) {
        const char *end = length > 0 ? memchr(names, 0, (size_t)length) : NULL;
        struct stat status;
        if (end == NULL || fstatat(folder, names, &status, AT_SYMLINK_NOFOLLOW) || see(files + done, &status))
            break;
        length -= end + 1 - names;
        names = end + 1;
    }
    return done;
}

/* Read a file into `content`, which has room for one byte more than `size`: how many bytes it has as far as that, or -1. */
static int64_t contents(int fd, char *content, int64_t size)
{
    int64_t have = 0;
    ssize_t more;

    do {
        more = pread(fd, content + have, (size_t)(size + 1 - have), have);
        have += more > 0 ? more : 0;
    } while (more > 0 && have < size);
    return more < 0 ? -1 : have;
}

/* Whether the open file is the one that was seen, and `content` is all of it. */
static int same(int fd, const struct seen *file, char *content)
{
    struct stat status;
    struct seen now;

    return contents(fd, content, file->size) == file->size && !fstat(fd, &status) && !see(&now, &status)
        && now.size == file->size && now.inode == file->inode && now.mtime_ns == file->mtime_ns
        && now.ctime_ns == file->ctime_ns;
}

/*
 * Read regular files that are as they were seen, one behind the other into `content`, which has room for `room` bytes:
 * one more than all of them have. `paths`, of `length` bytes, has the path of each with a zero byte.
 */
EXPORT long ftx_read(
    const struct seen *files, long count, const char *paths, int64_t length, char *content, int64_t room)
{
    long done;

    for (done = 0; done < count; done++) {
        const struct seen *file = files + done;
        const char *end = length > 0 ? memchr(paths, 0, (size_t)length) : NULL;
        int fd, found;
        if (end == NULL || file->size < 0 || file->size >= room)
            break;
        fd = open(paths, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            break;
        found = same(fd, file, content);
        close(fd);
        if (!found)
            break;
        content += file->size;
        room -= file->size;
        length -= end + 1 - paths;
        paths = end + 1;
    }
    return done;
}

/* Which rows and functions this library has. */
EXPORT int ftx_many(void)
{
    return FTX_MANY;
}
