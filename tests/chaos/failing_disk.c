/* Loaded before the C library into a process (LD_PRELOAD), fails its calls on files below a folder while somebody else says so.
   VEDETTE_FAULT_FOLDER names the folder; VEDETTE_FAULT_SWITCH a file of two bytes: the errno, 0 for no fault, and which calls fail
   (1 writing, 2 reading). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITING = 1, READING = 2 };

static const volatile unsigned char *fault;
static const char *folder;

__attribute__((constructor)) static void set_up(void) {
  const char *path = getenv("VEDETTE_FAULT_SWITCH");
  folder = getenv("VEDETTE_FAULT_FOLDER");
  if (!path || !folder) return;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, 2, PROT_READ, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  fault = mapped;
  close(fd);
}

static int is_below(const char *path) {
  return strncmp(path, folder, strlen(folder)) == 0;
}

static int fails(int fd, int what) {
  char link[64], path[4096];
  if (!fault || !fault[0] || !(fault[1] & what)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (!is_below(path)) return 0;
  errno = fault[0];
  return 1;
}

#define FAILS(what, type, name, parameters, arguments)                       \
  type name parameters {                                                     \
    static type(*next) parameters;                                           \
    if (!next) next = (type(*) parameters)dlsym(RTLD_NEXT, #name);           \
    return fails(fd, what) ? (type)-1 : next arguments;                      \
  }

FAILS(WRITING, ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
FAILS(WRITING, ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FAILS(WRITING, ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FAILS(WRITING, int, ftruncate, (int fd, off_t size), (fd, size))
FAILS(WRITING, int, ftruncate64, (int fd, off64_t size), (fd, size))
FAILS(WRITING, int, fsync, (int fd), (fd))
FAILS(WRITING, int, fdatasync, (int fd), (fd))
FAILS(READING, ssize_t, read, (int fd, void *data, size_t size), (fd, data, size))
FAILS(READING, ssize_t, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
FAILS(READING, ssize_t, pread64, (int fd, void *data, size_t size, off64_t at), (fd, data, size, at))

static int refuses(const char *path, int flags) {
  if (!fault || !fault[0] || !is_below(path) || !(flags & O_CREAT)) return 0;
  if (!(fault[1] & WRITING) || access(path, F_OK) == 0) return 0;
  errno = fault[0];
  return 1;
}

#define OPENS(name)                                                          \
  int name(const char *path, int flags, ...) {                               \
    static int (*next)(const char *, int, ...);                              \
    va_list more;                                                            \
    va_start(more, flags);                                                   \
    mode_t mode = va_arg(more, mode_t);                                      \
    va_end(more);                                                            \
    if (!next) next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
    return refuses(path, flags) ? -1 : next(path, flags, mode);              \
  }

OPENS(open)
OPENS(open64)
