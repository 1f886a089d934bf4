/* Preloaded into a process: lets the n-th write below a folder fail as on a full disk, that one alone or all from it on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[4096];
static long wanted, seen, failed;
static int for_good;

void fail_writes_arm(const char *folder, long n, int from_then_on) {
    strncpy(below, folder, sizeof below - 1);
    wanted = n;
    seen = failed = 0;
    for_good = from_then_on;
}

long fail_writes_seen(void) { return seen; }
long fail_writes_failed(void) { return failed; }

static int fails(int fd) {
    char link[64], path[4096];
    if (!wanted) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (strncmp(path, below, strlen(below))) return 0;
    seen++;
    if (seen != wanted && !(for_good && seen > wanted)) return 0;
    failed++;
    errno = ENOSPC;
    return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *from, size_t n) { REAL(write); return fails(fd) ? -1 : real(fd, from, n); }
ssize_t writev(int fd, const struct iovec *from, int n) { REAL(writev); return fails(fd) ? -1 : real(fd, from, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) { REAL(pwrite); return fails(fd) ? -1 : real(fd, from, n, at); }
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) { REAL(pwrite64); return fails(fd) ? -1 : real(fd, from, n, at); }
int fsync(int fd) { REAL(fsync); return fails(fd) ? -1 : real(fd); }
size_t fwrite(const void *from, size_t size, size_t n, FILE *file) { REAL(fwrite); return fails(fileno(file)) ? 0 : real(from, size, n, file); }
int fclose(FILE *file) {
    REAL(fclose);
    int lost = __fpending(file) && fails(fileno(file));
    if (lost) __fpurge(file);
    int ended = real(file);
    return lost ? EOF : ended;
}
