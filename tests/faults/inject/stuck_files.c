/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the program by tests: lets the calls for files below a folder hang for ever, or be slow, as those of a
 * network file system do whose server is gone or busy.
 *   CARAVAN_STUCK_FOLDER  how their paths begin
 *   CARAVAN_STUCK_CALL    files (open, access, stat, rename, unlink, rmdir, write, fsync), or fsync alone
 *   CARAVAN_STUCK_WHEN    a file, elsewhere: as soon as it exists (default: at once)
 *   CARAVAN_STUCK_RANK    the rank that meets it (default: all)
 *   CARAVAN_STUCK_TENTHS  so many tenths of a second, in each of which a byte is written elsewhere, instead of for ever */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static void nap(void) {
  const struct timespec tenth = {0, 100000000};
  nanosleep(&tenth, NULL);
}

/* A function with a name of its own, for the stack that the watchdog shows. */
void wait_for_the_storage(void) {
  const char* tenths = getenv("CARAVAN_STUCK_TENTHS");
  const int elsewhere = tenths ? (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_WRONLY | O_CLOEXEC) : -1;
  for (long left = tenths ? atol(tenths) : LONG_MAX; left > 0; --left) {
    nap();
    if (tenths) syscall(SYS_write, elsewhere, "", 1);
  }
  if (elsewhere >= 0) close(elsewhere);
}

static void meet(const char* path, const char* call) {
  const char* folder = getenv("CARAVAN_STUCK_FOLDER");
  const char* wanted = getenv("CARAVAN_STUCK_CALL");
  const char* when = getenv("CARAVAN_STUCK_WHEN");
  const char* rank = getenv("CARAVAN_STUCK_RANK");
  const char* mine = getenv("OMPI_COMM_WORLD_RANK");
  if (!folder || !wanted || strncmp(path, folder, strlen(folder)) != 0) return;
  if (strcmp(wanted, "files") != 0 && strcmp(wanted, call) != 0) return;
  if (rank && mine && strcmp(rank, mine) != 0) return;
  if (when && syscall(SYS_access, when, F_OK) != 0) return;
  wait_for_the_storage();
}

static void meet_file(int descriptor, const char* call) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const long length = syscall(SYS_readlink, link, path, sizeof path - 1);
  if (length <= 0) return;
  path[length] = '\0';
  meet(path, call);
}

#define NEXT(name) \
  static __typeof__(name)* next = NULL; \
  if (!next) next = (__typeof__(name)*)dlsym(RTLD_NEXT, #name)

#define OPEN(name)                              \
  int name(const char* path, int flags, ...) {  \
    NEXT(name);                                 \
    va_list list;                               \
    va_start(list, flags);                      \
    const unsigned mode = va_arg(list, unsigned); \
    va_end(list);                               \
    meet(path, "open");                         \
    return next(path, flags, mode);             \
  }
OPEN(open)
OPEN(open64)

#define WITH_PATH(result, name, parameters, arguments) \
  result name parameters {                             \
    NEXT(name);                                        \
    meet(path, #name);                                 \
    return next arguments;                             \
  }
WITH_PATH(FILE*, fopen, (const char* path, const char* mode), (path, mode))
WITH_PATH(FILE*, fopen64, (const char* path, const char* mode), (path, mode))
WITH_PATH(int, access, (const char* path, int mode), (path, mode))
WITH_PATH(int, stat, (const char* path, struct stat* status), (path, status))
WITH_PATH(int, rename, (const char* path, const char* to), (path, to))
WITH_PATH(int, unlink, (const char* path), (path))
WITH_PATH(int, rmdir, (const char* path), (path))

#define WITH_FILE(result, name, parameters, arguments) \
  result name parameters {                             \
    NEXT(name);                                        \
    meet_file(file, #name);                            \
    return next arguments;                             \
  }
WITH_FILE(ssize_t, write, (int file, const void* data, size_t bytes), (file, data, bytes))
WITH_FILE(ssize_t, writev, (int file, const struct iovec* parts, int count), (file, parts, count))
WITH_FILE(ssize_t, pwrite, (int file, const void* data, size_t bytes, off_t at), (file, data, bytes, at))
WITH_FILE(ssize_t, pwrite64, (int file, const void* data, size_t bytes, off64_t at), (file, data, bytes, at))
WITH_FILE(int, fsync, (int file), (file))
