/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into the program by tests: lets writing to some files, or reading them, fail as a full or broken disk does.
 *   CARAVAN_FAULT_FILE   part of the path of the files that fail
 *   CARAVAN_FAULT_CALL   write (write, pwrite, writev), fsync, or read (read, pread)
 *   CARAVAN_FAULT_ERRNO  the error, as a number
 *   CARAVAN_FAULT_AFTER  bytes that such files take in all before they fail (default 0)
 *   CARAVAN_FAULT_RANK   the rank that has the fault (default: all)
 *   CARAVAN_FAULT_ONCE   a file that is made at the first failed read, after which nothing fails in any process; default:
 *                        reading always fails */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static long taken = 0;

static int concerns(int descriptor, const char* call) {
  const char* file = getenv("CARAVAN_FAULT_FILE");
  const char* wanted = getenv("CARAVAN_FAULT_CALL");
  const char* rank = getenv("CARAVAN_FAULT_RANK");
  const char* mine = getenv("OMPI_COMM_WORLD_RANK");
  if (!file || !wanted || strcmp(wanted, call) != 0) return 0;
  if (rank && mine && strcmp(rank, mine) != 0) return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = '\0';
  return strstr(path, file) != NULL;
}

/* Whether a write of so many bytes is one too many. */
static int fails(int descriptor, size_t bytes) {
  if (!concerns(descriptor, "write")) return 0;
  const char* after = getenv("CARAVAN_FAULT_AFTER");
  taken += (long)bytes;
  if (taken <= (after ? atol(after) : 0)) return 0;
  errno = atoi(getenv("CARAVAN_FAULT_ERRNO"));
  return 1;
}

ssize_t write(int descriptor, const void* data, size_t bytes) {
  static ssize_t (*next)(int, const void*, size_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "write");
  return fails(descriptor, bytes) ? -1 : next(descriptor, data, bytes);
}

ssize_t pwrite(int descriptor, const void* data, size_t bytes, off_t offset) {
  static ssize_t (*next)(int, const void*, size_t, off_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "pwrite");
  return fails(descriptor, bytes) ? -1 : next(descriptor, data, bytes, offset);
}

ssize_t pwrite64(int descriptor, const void* data, size_t bytes, off64_t offset) {
  static ssize_t (*next)(int, const void*, size_t, off64_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
  return fails(descriptor, bytes) ? -1 : next(descriptor, data, bytes, offset);
}

ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  static ssize_t (*next)(int, const struct iovec*, int) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "writev");
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  return fails(descriptor, bytes) ? -1 : next(descriptor, parts, count);
}

int fsync(int descriptor) {
  static int (*next)(int) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "fsync");
  if (concerns(descriptor, "fsync")) {
    errno = atoi(getenv("CARAVAN_FAULT_ERRNO"));
    return -1;
  }
  return next(descriptor);
}

static int fails_to_read(int descriptor) {
  if (!concerns(descriptor, "read")) return 0;
  const char* once = getenv("CARAVAN_FAULT_ONCE");
  if (once) {
    const int made = open(once, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (made < 0) return 0;
    close(made);
  }
  errno = atoi(getenv("CARAVAN_FAULT_ERRNO"));
  return 1;
}

ssize_t read(int descriptor, void* data, size_t bytes) {
  static ssize_t (*next)(int, void*, size_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "read");
  return fails_to_read(descriptor) ? -1 : next(descriptor, data, bytes);
}

ssize_t pread(int descriptor, void* data, size_t bytes, off_t offset) {
  static ssize_t (*next)(int, void*, size_t, off_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "pread");
  return fails_to_read(descriptor) ? -1 : next(descriptor, data, bytes, offset);
}

ssize_t pread64(int descriptor, void* data, size_t bytes, off64_t offset) {
  static ssize_t (*next)(int, void*, size_t, off64_t) = NULL;
  if (!next) next = dlsym(RTLD_NEXT, "pread64");
  return fails_to_read(descriptor) ? -1 : next(descriptor, data, bytes, offset);
}
