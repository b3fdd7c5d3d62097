// faults_test.py preloads it into a collector. Calls on trace files fail as the file in
// MOETRACE_TEST_FAULTS asks. Each of its lines is "CALL WHAT". CALL: pread, write, pwrite,
// fdatasync, ftruncate or open. WHAT: the number of an errno, or "short": half of the bytes. Each
// call reads the file, so a test can change it while the collector runs.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const int kShort = -1;

static int is_trace(const char* path) {
  return strstr(path, ".jsonl") != NULL;
}

static int is_trace_fd(int fd) {
  char link[64];
  char path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = '\0';
  return is_trace(path);
}

// 0: no fault. kShort: half of the bytes. Otherwise the errno.
static int fault(const char* call) {
  const char* name = getenv("MOETRACE_TEST_FAULTS");
  FILE* file = name == NULL ? NULL : fopen(name, "re");
  if (file == NULL) return 0;
  char found[32];
  char what[32];
  int result = 0;
  while (fscanf(file, "%31s %31s", found, what) == 2) {
    if (strcmp(found, call) == 0) result = strcmp(what, "short") == 0 ? kShort : atoi(what);
  }
  fclose(file);
  return result;
}

// EINTR comes every other time: a call that is always interrupted would never end.
static int takes_effect(int failed) {
  static int calls;
  return failed != 0 && (failed != EINTR || ++calls % 2 == 1);
}

#define FAIL_IF_WANTED(fd, call)                        \
  const int failed = is_trace_fd(fd) ? fault(call) : 0; \
  if (takes_effect(failed) && failed != kShort) {       \
    errno = failed;                                     \
    return -1;                                          \
  }

#define REAL(type, name) \
  static type real;      \
  if (real == NULL) real = (type)dlsym(RTLD_NEXT, name)

typedef ssize_t (*pread_t)(int, void*, size_t, off_t);
typedef ssize_t (*pwrite_t)(int, const void*, size_t, off_t);
typedef ssize_t (*write_t)(int, const void*, size_t);
typedef int (*sync_t)(int);
typedef int (*truncate_t)(int, off_t);
typedef int (*open_t)(const char*, int, ...);

ssize_t pread(int fd, void* to, size_t bytes, off_t at) {
  REAL(pread_t, "pread");
  FAIL_IF_WANTED(fd, "pread")
  return real(fd, to, failed == kShort ? (bytes + 1) / 2 : bytes, at);
}
ssize_t pread64(int fd, void* to, size_t bytes, off_t at) {
  return pread(fd, to, bytes, at);
}

ssize_t pwrite(int fd, const void* from, size_t bytes, off_t at) {
  REAL(pwrite_t, "pwrite");
  FAIL_IF_WANTED(fd, "pwrite")
  return real(fd, from, failed == kShort ? (bytes + 1) / 2 : bytes, at);
}
ssize_t pwrite64(int fd, const void* from, size_t bytes, off_t at) {
  return pwrite(fd, from, bytes, at);
}

ssize_t write(int fd, const void* from, size_t bytes) {
  REAL(write_t, "write");
  FAIL_IF_WANTED(fd, "write")
  return real(fd, from, failed == kShort ? (bytes + 1) / 2 : bytes);
}

int fdatasync(int fd) {
  REAL(sync_t, "fdatasync");
  FAIL_IF_WANTED(fd, "fdatasync")
  return real(fd);
}

int ftruncate(int fd, off_t bytes) {
  REAL(truncate_t, "ftruncate");
  FAIL_IF_WANTED(fd, "ftruncate")
  return real(fd, bytes);
}
int ftruncate64(int fd, off_t bytes) {
  return ftruncate(fd, bytes);
}

int open(const char* path, int flags, ...) {
  REAL(open_t, "open");
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  const int failed = is_trace(path) ? fault("open") : 0;
  if (takes_effect(failed) && failed != kShort) {
    errno = failed;
    return -1;
  }
  return real(path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open(path, flags, mode);
}
