/* Kills its own process with SIGKILL at the N-th call that changes a disk or a database: loaded by LD_PRELOAD.
 *
 * Once `obms_kill_at` has armed it, each such call is a point: it is described and kept, and at the N-th
 * whose description has the wanted text in it the process ends before the call, after half of its
 * bytes, or after it. Children do not count: what arms it is the id of the process. Output and error are
 * left out, and so are sockets that lead nowhere but into this process (threads wake each other by them).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { BEFORE, HALF, AFTER };
enum { POINTS = 50000, LENGTH = 240, SHOWN = 150 };

static atomic_int armed_process, reached, matching;
static int target, mode, report, chosen;
static char points[POINTS][LENGTH], wanted[LENGTH];

void obms_kill_at(const char *text, int number, int how, int report_to) {
    snprintf(wanted, sizeof wanted, "%s", text);
    target = number;
    mode = how;
    report = report_to;
    reached = matching = chosen = 0;
    armed_process = getpid();
}

int obms_disarm(void) {
    armed_process = 0;
    return reached;
}

const char *obms_point(int number) { return number < POINTS ? points[number] : ""; }

static void end(const char *point) {
    syscall(SYS_write, report, point, strlen(point));
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* The clock on the wall goes wrong in this process: so many seconds ahead, or behind. */
static atomic_long ahead;

void obms_shift_clock(long seconds) { ahead = seconds; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (!result && clock == CLOCK_REALTIME) now->tv_sec += ahead;
    return result;
}

/* Count this call; ends the process if it is the one, and was to end before the call. Its number, or 0. */
static int count(const char *call, const char *what) {
    if (!armed_process || armed_process != getpid()) return 0;
    int kept = errno, number = atomic_fetch_add(&reached, 1) + 1;
    char *point = points[number < POINTS ? number : 0];
    snprintf(point, LENGTH, "%s %s", call, what);
    if (strstr(point, wanted) && atomic_fetch_add(&matching, 1) + 1 == target) {
        chosen = number;
        if (mode == BEFORE) end(point);
    }
    errno = kept;
    return number;
}

static int is_half(int number) { return number && number == chosen && mode == HALF; }

static void done(int number) {
    if (number && number == chosen) end(points[number < POINTS ? number : 0]);
}

static const char *file_of(int descriptor, char *name) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, name, LENGTH - 1);
    name[length > 0 ? length : 0] = 0;
    return name;
}

/* Whether writing there is seen outside: a file, a pipe to a child, a socket to a server. */
static int leads_out(int descriptor) {
    struct stat found;
    if (descriptor == 1 || descriptor == 2 || fstat(descriptor, &found)) return 0;
    if (!S_ISSOCK(found.st_mode)) return S_ISREG(found.st_mode) || S_ISFIFO(found.st_mode);
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (getpeername(descriptor, (struct sockaddr *)&peer, &size)) return 0;
    return peer.ss_family != AF_UNIX || size > sizeof(sa_family_t);
}

static const char *text_of(const void *bytes, size_t size, char *text) {
    size_t length = 0;
    for (size_t i = 0; i < size && length < SHOWN; i++) {
        unsigned char byte = ((const unsigned char *)bytes)[i];
        if (byte > ' ' && byte < 127) text[length++] = (char)byte;
        else if (length && text[length - 1] != ' ') text[length++] = ' ';
    }
    text[length] = 0;
    return text;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* A call that is no write: counted with `what`, made, and maybe the last. */
#define PLAIN(type, name, parameters, arguments, what) \
    type name parameters { \
        REAL(name); \
        char text[LENGTH]; \
        (void)text; \
        int number = armed_process ? count(#name, what) : 0; \
        type result = real arguments; \
        done(number); \
        return result; \
    }

/* A write of `size` bytes to `fd`: `arguments` are those of the whole, `half` those of its first half. */
#define WRITE(name, parameters, arguments, half, what) \
    ssize_t name parameters { \
        REAL(name); \
        char text[LENGTH]; \
        int number = armed_process && leads_out(fd) ? count(#name, what) : 0; \
        ssize_t result = is_half(number) ? real half : real arguments; \
        done(number); \
        return result; \
    }

#define FILE_OF_FD file_of(fd, text)
WRITE(write, (int fd, const void *b, size_t n), (fd, b, n), (fd, b, n / 2), FILE_OF_FD)
WRITE(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), (fd, b, n / 2, o), FILE_OF_FD)
WRITE(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), (fd, b, n / 2, o), FILE_OF_FD)
WRITE(writev, (int fd, const struct iovec *v, int n), (fd, v, n), (fd, v, n / 2), FILE_OF_FD)
WRITE(pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o), (fd, v, n / 2, o), FILE_OF_FD)
WRITE(sendfile, (int fd, int in, off_t *o, size_t n), (fd, in, o, n), (fd, in, o, n / 2), FILE_OF_FD)
WRITE(copy_file_range, (int in, off64_t *i, int fd, off64_t *o, size_t n, unsigned f), (in, i, fd, o, n, f),
      (in, i, fd, o, n / 2, f), FILE_OF_FD)
WRITE(send, (int fd, const void *b, size_t n, int f), (fd, b, n, f), (fd, b, n / 2, f), text_of(b, n, text))
WRITE(sendto, (int fd, const void *b, size_t n, int f, const struct sockaddr *a, socklen_t l),
      (fd, b, n, f, a, l), (fd, b, n / 2, f, a, l), text_of(b, n, text))
WRITE(sendmsg, (int fd, const struct msghdr *m, int f), (fd, m, f), (fd, m, f),
      text_of(m->msg_iov->iov_base, m->msg_iov->iov_len, text))

PLAIN(int, fsync, (int fd), (fd), FILE_OF_FD)
PLAIN(int, fdatasync, (int fd), (fd), FILE_OF_FD)
PLAIN(int, ftruncate, (int fd, off_t n), (fd, n), FILE_OF_FD)
PLAIN(int, ftruncate64, (int fd, off64_t n), (fd, n), FILE_OF_FD)
PLAIN(int, fallocate, (int fd, int m, off_t o, off_t n), (fd, m, o, n), FILE_OF_FD)
PLAIN(int, posix_fallocate, (int fd, off_t o, off_t n), (fd, o, n), FILE_OF_FD)
PLAIN(int, rename, (const char *a, const char *b), (a, b), b)
PLAIN(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), b)
PLAIN(int, renameat2, (int d, const char *a, int e, const char *b, unsigned f), (d, a, e, b, f), b)
PLAIN(int, link, (const char *a, const char *b), (a, b), b)
PLAIN(int, linkat, (int d, const char *a, int e, const char *b, int f), (d, a, e, b, f), b)
PLAIN(int, symlink, (const char *a, const char *b), (a, b), b)
PLAIN(int, unlink, (const char *a), (a), a)
PLAIN(int, unlinkat, (int d, const char *a, int f), (d, a, f), a)
PLAIN(int, mkdir, (const char *a, mode_t m), (a, m), a)
PLAIN(int, mkdirat, (int d, const char *a, mode_t m), (d, a, m), a)
PLAIN(int, rmdir, (const char *a), (a), a)

/* Opening counts where it makes or empties a file. */
#define OPEN(name, parameters, arguments) \
    int name parameters { \
        REAL(name); \
        mode_t rights = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            rights = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        int number = armed_process && flags & (O_CREAT | O_TRUNC) ? count(#name, path) : 0; \
        int result = real arguments; \
        done(number); \
        return result; \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, rights))
OPEN(open64, (const char *path, int flags, ...), (path, flags, rights))
OPEN(openat, (int d, const char *path, int flags, ...), (d, path, flags, rights))
OPEN(openat64, (int d, const char *path, int flags, ...), (d, path, flags, rights))
