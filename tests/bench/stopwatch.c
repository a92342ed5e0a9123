/* What the benchmark needs of the machine itself, in a program that disturbs it least: static, one thread, no runtime.
 *
 *   stopwatch run REPORT COMMAND...   runs COMMAND and appends to REPORT: wall time (ns), user and system time of it
 *                                     and of all that it waited for (us), largest resident set (KiB), status
 *   stopwatch mark REPORT             appends the time since `run` executed its command (ns); this is read first of all
 *   stopwatch pour FILE BLOCK         writes FILE to stdout, BLOCK bytes at a time
 *   stopwatch print BYTES             prints that many bytes of lines of 100 bytes, as programs do: printf, collected by the C library
 *   stopwatch tick COUNT MILLIS       writes the time of day (ns), COUNT times, MILLIS apart
 *   stopwatch hold                    does nothing until it is killed
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BEGUN "STOPWATCH_BEGUN="

static long long now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int fail(const char *what) {
  fprintf(stderr, "stopwatch: failed to %s: %s\n", what, strerror(errno));
  return 125;
}

static int append(const char *path, const char *text) {
  int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  ssize_t length = strlen(text);
  if (file < 0 || write(file, text, length) != length) return fail("write the report");
  close(file);
  return 0;
}

static long long micros(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

static int run(const char *report, char **command) {
  static char begun[64];
  long long start = now(CLOCK_MONOTONIC);
  pid_t child = fork();
  if (child < 0) return fail("fork");
  if (child == 0) {
    snprintf(begun, sizeof begun, BEGUN "%lld", now(CLOCK_MONOTONIC));
    putenv(begun);
    execvp(command[0], command);
    _exit(fail(command[0]));
  }
  int status = 0;
  struct rusage used;
  while (wait4(child, &status, 0, &used) < 0)
    if (errno != EINTR) return fail("wait");
  long long wall = now(CLOCK_MONOTONIC) - start;
  int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  char line[160];
  snprintf(line, sizeof line, "%lld %lld %lld %ld %d\n", wall, micros(used.ru_utime), micros(used.ru_stime), used.ru_maxrss, code);
  return append(report, line) ? 125 : code;
}

static int mark(const char *report, long long here) {
  const char *begun = getenv("STOPWATCH_BEGUN");
  char line[32];
  snprintf(line, sizeof line, "%lld\n", begun ? here - atoll(begun) : -1);
  return append(report, line);
}

static int pour(const char *path, size_t block) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  struct stat stat;
  if (file < 0 || fstat(file, &stat) < 0 || block == 0) return fail("open the file");
  char *bytes = mmap(NULL, stat.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, file, 0);
  if (bytes == MAP_FAILED) return fail("map the file");
  for (size_t at = 0; at < (size_t)stat.st_size;) {
    size_t left = stat.st_size - at;
    ssize_t count = write(1, bytes + at, left < block ? left : block);
    if (count < 0 && errno != EINTR) return fail("write");
    if (count > 0) at += count;
  }
  return 0;
}

static int print(unsigned long bytes) {
  unsigned long number = 0, state = 1;
  for (; bytes >= 100; bytes -= 100, number++) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    if (printf("%08lu INFO  worker-%02lu req=%08lx GET /v1/items/%06lu %-31s %6luus\n", number, state >> 60, state >> 32 & 0xffffffffUL,
               (state >> 20) % 1000000, "served from the cache", (state >> 40) % 1000000) != 100)
      return fail("print");
  }
  return fflush(stdout) ? fail("print") : 0;
}

static int tick(int count, long millis) {
  struct timespec pause = {millis / 1000, millis % 1000 * 1000000};
  for (; count > 0; count--) {
    char line[32];
    int length = snprintf(line, sizeof line, "%lld\n", now(CLOCK_REALTIME));
    if (write(1, line, length) != length) return fail("write");
    nanosleep(&pause, NULL);
  }
  return 0;
}

int main(int count, char **words) {
  long long here = now(CLOCK_MONOTONIC);
  const char *task = count > 1 ? words[1] : "";
  if (!strcmp(task, "run") && count > 3) return run(words[2], words + 3);
  if (!strcmp(task, "mark") && count == 3) return mark(words[2], here);
  if (!strcmp(task, "pour") && count == 4) return pour(words[2], strtoul(words[3], NULL, 10));
  if (!strcmp(task, "print") && count == 3) return print(strtoul(words[2], NULL, 10));
  if (!strcmp(task, "tick") && count == 4) return tick(atoi(words[2]), atol(words[3]));
  if (!strcmp(task, "hold") && count == 2) return pause();
  fprintf(stderr, "stopwatch: see the top of its source\n");
  return 125;
}
