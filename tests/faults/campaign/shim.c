/* Watches, and disturbs, what a process does to the files below one folder. Loaded by LD_PRELOAD.
 *
 * An operation is a call that changes something on the disk, or waits for the disk: each of them is
 * counted, and, if asked for, written to a journal with its data (the layout is in journal.py). At a
 * chosen operation the process is killed, or the call fails.
 *
 * Calls that would move data past these functions (clone, sendfile, copy_file_range) are refused as
 * by a file system that lacks them: programs then fall back to write. fsync is not passed on; what a
 * disk would make of it is worked out from the journal. A lock orders the threads of the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same numbers are in journal.py and shim.py. */
enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK };
enum action { WATCH, KILL, TEAR, FAIL, FULL };

static char root[PATH_MAX];
static size_t root_length;
static volatile int watching;
static enum action action;
static long count, chosen;
static int error_number;
static FILE *journal;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

struct head {
  uint8_t kind;
  uint64_t node, offset, path, target, data;
} __attribute__((packed));

static void leave(void) {
  int kept = errno;
  pthread_mutex_unlock(&lock);
  errno = kept;
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

void faults_begin(const char *folder, const char *path, long at, int what, int error) {
  pthread_mutex_lock(&lock);
  snprintf(root, sizeof root, "%s", folder);
  root_length = strlen(root);
  action = what, chosen = at, error_number = error, count = 0;
  journal = *path ? fopen(path, "wb") : NULL;
  watching = 1;
  leave();
}

static int below(const char *path) {
  return !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The absolute path of a name that may be relative to an open folder; whether it is watched. */
static int watched_path(int folder, const char *name, char *path) {
  char link[64], base[PATH_MAX] = "";
  if (!watching) return 0;
  if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, base, sizeof base - 1);
    base[length > 0 ? length : 0] = 0;
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
  }
  for (size_t end = strlen(path); end > 1 && path[end - 1] == '/';) path[--end] = 0;
  return below(path);
}

static int watched_file(int file, char *path) {
  char link[64];
  if (!watching) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0 && below(path);
}

static int is_watched(int file) {
  char path[PATH_MAX];
  return watched_file(file, path);
}

static uint64_t node_of(const char *path) {
  struct stat found;
  return lstat(path, &found) ? 0 : found.st_ino;
}

static uint64_t node_of_file(int file) {
  struct stat found;
  return fstat(file, &found) ? 0 : found.st_ino;
}

/* Counts an operation that is about to happen, with the lock held. The answer is how much of it does:
 * ALL; NONE, and errno says why; HALF of a write, after which the process dies or the disk is full. */
enum { ALL, NONE, HALF };
static int next(enum kind kind) {
  count++;
  if (action == FULL && count >= chosen && kind != UNLINK && kind != RMDIR) {
    errno = error_number;
    return count == chosen && kind == WRITE ? HALF : NONE;
  }
  if (count != chosen) return ALL;
  if (action == KILL || (action == TEAR && kind != WRITE)) die();
  if (action == FAIL) errno = error_number;
  return action == FAIL ? NONE : action == TEAR ? HALF : ALL;
}

static void note(enum kind kind, uint64_t node, uint64_t offset, const char *path,
                 const char *target, const struct iovec *parts, int n, size_t length) {
  if (!journal) return;
  struct head head = {kind, node, offset, strlen(path), strlen(target), length};
  fwrite(&head, sizeof head, 1, journal);
  fputs(path, journal);
  fputs(target, journal);
  for (int i = 0; i < n && length; i++) {
    size_t some = parts[i].iov_len < length ? parts[i].iov_len : length;
    fwrite(parts[i].iov_base, 1, some, journal);
    length -= some;
  }
  fflush(journal);
}

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

/* ---- opening ---- */

static int do_open(int folder, const char *name, int flags, mode_t mode) {
  char path[PATH_MAX];
  int changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE;
  if (!changes || !watched_path(folder, name, path))
    return syscall(SYS_openat, folder, name, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat found;
  int nameless = (flags & O_TMPFILE) == O_TMPFILE, exists = !nameless && !stat(path, &found);
  int creates = nameless || (!exists && flags & O_CREAT);
  int truncates = exists && S_ISREG(found.st_mode) && flags & O_TRUNC && found.st_size;
  int file = -1;
  if (!(creates || truncates) || next(creates ? CREATE : TRUNCATE) == ALL) {
    file = syscall(SYS_openat, folder, name, flags, mode);
    if (file >= 0 && creates) note(CREATE, node_of_file(file), 0, nameless ? "" : path, "", 0, 0, 0);
    if (file >= 0 && truncates) note(TRUNCATE, node_of_file(file), 0, path, "", 0, 0, 0);
  }
  leave();
  return file;
}

#define MODE(flags) \
  mode_t mode = 0; \
  if (flags & (O_CREAT | O_TMPFILE)) { \
    va_list rest; \
    va_start(rest, flags); \
    mode = va_arg(rest, mode_t); \
    va_end(rest); \
  }
int open(const char *p, int f, ...) { MODE(f) return do_open(AT_FDCWD, p, f, mode); }
int open64(const char *p, int f, ...) { MODE(f) return do_open(AT_FDCWD, p, f, mode); }
int openat(int d, const char *p, int f, ...) { MODE(f) return do_open(d, p, f, mode); }
int openat64(int d, const char *p, int f, ...) { MODE(f) return do_open(d, p, f, mode); }
int creat(const char *p, mode_t m) { return do_open(AT_FDCWD, p, O_CREAT | O_WRONLY | O_TRUNC, m); }
int creat64(const char *p, mode_t m) { return creat(p, m); }

/* ---- data ---- */

/* Writes at an offset, or, if it is negative, where the file is. */
static ssize_t do_write(int file, const struct iovec *parts, int n, off_t offset) {
  struct iovec half[1];
  ssize_t done = -1;
  char path[PATH_MAX];
  int watched = watched_file(file, path), how = ALL;
  if (watched) pthread_mutex_lock(&lock), how = next(WRITE);
  if (how == HALF) {
    half[0].iov_base = parts[0].iov_base, half[0].iov_len = parts[0].iov_len / 2;
    parts = half, n = 1;
  }
  if (how != NONE && !(how == HALF && !half[0].iov_len)) {
    done = offset < 0 ? syscall(SYS_writev, file, parts, n)
                      : syscall(SYS_pwritev, file, parts, n, (long)offset, (long)0);
    if (watched && done > 0) {
      off_t at = offset < 0 ? lseek(file, 0, SEEK_CUR) - done : offset;
      note(WRITE, node_of_file(file), at, path, "", parts, n, done);
    }
  }
  if (how == HALF && action == TEAR) die();
  if (watched) leave();
  return done;
}

#define ONE(data, length) struct iovec one = {(void *)data, length}
ssize_t write(int f, const void *b, size_t n) { ONE(b, n); return do_write(f, &one, 1, -1); }
ssize_t pwrite(int f, const void *b, size_t n, off_t o) { ONE(b, n); return do_write(f, &one, 1, o); }
ssize_t pwrite64(int f, const void *b, size_t n, off_t o) { ONE(b, n); return do_write(f, &one, 1, o); }
ssize_t writev(int f, const struct iovec *v, int n) { return do_write(f, v, n, -1); }
ssize_t pwritev(int f, const struct iovec *v, int n, off_t o) { return do_write(f, v, n, o); }
ssize_t pwritev64(int f, const struct iovec *v, int n, off_t o) { return do_write(f, v, n, o); }

int ftruncate(int file, off_t length) {
  char path[PATH_MAX];
  if (!watched_file(file, path)) return syscall(SYS_ftruncate, file, length);
  pthread_mutex_lock(&lock);
  int failed = next(TRUNCATE) != ALL ? -1 : syscall(SYS_ftruncate, file, length);
  if (!failed) note(TRUNCATE, node_of_file(file), length, path, "", 0, 0, 0);
  leave();
  return failed;
}
int ftruncate64(int file, off_t length) { return ftruncate(file, length); }

static int do_sync(int file, const char *name) {
  char path[PATH_MAX];
  if (!watched_file(file, path)) return REAL(int, name, int)(file);
  pthread_mutex_lock(&lock);
  int failed = next(SYNC) == ALL ? 0 : -1;
  if (!failed) note(SYNC, node_of_file(file), 0, path, "", 0, 0, 0);
  leave();
  return failed;
}
int fsync(int file) { return do_sync(file, "fsync"); }
int fdatasync(int file) { return do_sync(file, "fdatasync"); }

ssize_t sendfile(int file, int from, off_t *at, size_t n) {
  if (is_watched(file)) return errno = EINVAL, -1;
  return REAL(ssize_t, "sendfile", int, int, off_t *, size_t)(file, from, at, n);
}
ssize_t sendfile64(int file, int from, off_t *at, size_t n) { return sendfile(file, from, at, n); }

ssize_t copy_file_range(int from, off_t *a, int file, off_t *b, size_t n, unsigned flags) {
  if (is_watched(file)) return errno = ENOSYS, -1;
  return REAL(ssize_t, "copy_file_range", int, off_t *, int, off_t *, size_t, unsigned)(
      from, a, file, b, n, flags);
}

int posix_fallocate(int file, off_t at, off_t n) {
  if (is_watched(file)) return EOPNOTSUPP;
  return REAL(int, "posix_fallocate", int, off_t, off_t)(file, at, n);
}
int posix_fallocate64(int file, off_t at, off_t n) { return posix_fallocate(file, at, n); }

int ioctl(int file, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void *argument = va_arg(rest, void *);
  va_end(rest);
  const unsigned long clone = 0x40049409; /* FICLONE */
  if (request == clone && is_watched(file)) return errno = EOPNOTSUPP, -1;
  return syscall(SYS_ioctl, file, request, argument);
}

/* ---- names ---- */

static int do_rename(int from, const char *a, int to, const char *b, unsigned flags) {
  char path[PATH_MAX], target[PATH_MAX];
  int watched = watched_path(from, a, path);
  if (!(watched_path(to, b, target) && watched) || !node_of(path))
    return syscall(SYS_renameat2, from, a, to, b, flags);
  pthread_mutex_lock(&lock);
  int failed = next(RENAME) != ALL ? -1 : syscall(SYS_renameat2, from, a, to, b, flags);
  if (!failed) note(RENAME, 0, 0, path, target, 0, 0, 0);
  leave();
  return failed;
}
int rename(const char *a, const char *b) { return do_rename(AT_FDCWD, a, AT_FDCWD, b, 0); }
int renameat(int d, const char *a, int e, const char *b) { return do_rename(d, a, e, b, 0); }
int renameat2(int d, const char *a, int e, const char *b, unsigned f) { return do_rename(d, a, e, b, f); }

static int do_remove(int folder, const char *name, int flags) {
  char path[PATH_MAX];
  if (!watched_path(folder, name, path) || !node_of(path))
    return syscall(SYS_unlinkat, folder, name, flags);
  enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
  pthread_mutex_lock(&lock);
  int failed = next(kind) != ALL ? -1 : syscall(SYS_unlinkat, folder, name, flags);
  if (!failed) note(kind, 0, 0, path, "", 0, 0, 0);
  leave();
  return failed;
}
int unlink(const char *p) { return do_remove(AT_FDCWD, p, 0); }
int rmdir(const char *p) { return do_remove(AT_FDCWD, p, AT_REMOVEDIR); }
int unlinkat(int d, const char *p, int flags) { return do_remove(d, p, flags); }

static int do_mkdir(int folder, const char *name, mode_t mode) {
  char path[PATH_MAX];
  if (!watched_path(folder, name, path) || node_of(path))
    return syscall(SYS_mkdirat, folder, name, mode);
  pthread_mutex_lock(&lock);
  int failed = next(MKDIR) != ALL ? -1 : syscall(SYS_mkdirat, folder, name, mode);
  if (!failed) note(MKDIR, node_of(path), 0, path, "", 0, 0, 0);
  leave();
  return failed;
}
int mkdir(const char *p, mode_t m) { return do_mkdir(AT_FDCWD, p, m); }
int mkdirat(int d, const char *p, mode_t m) { return do_mkdir(d, p, m); }

static int do_link(int from, const char *a, int to, const char *b, int flags) {
  char path[PATH_MAX], target[PATH_MAX];
  int watched = watched_path(to, b, target);
  if (!(watched_path(from, a, path) && watched) || node_of(target))
    return syscall(SYS_linkat, from, a, to, b, flags);
  pthread_mutex_lock(&lock);
  int failed = next(LINK) != ALL ? -1 : syscall(SYS_linkat, from, a, to, b, flags);
  if (!failed) note(LINK, 0, 0, path, target, 0, 0, 0);
  leave();
  return failed;
}
int link(const char *a, const char *b) { return do_link(AT_FDCWD, a, AT_FDCWD, b, 0); }
int linkat(int d, const char *a, int e, const char *b, int f) { return do_link(d, a, e, b, f); }
