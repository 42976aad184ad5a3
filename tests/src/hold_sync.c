/* A disk that a test holds: preloaded into the server, this lets its fsync and fdatasync wait or
 * fail. In the folder HOLD_SYNC, the file "hold" or "fail" has a part of the names of the files
 * that are meant; "held" or "failed" appears when one of them is met. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Whether the order of this name is about the file. */
static int meant(const char *order, int fd) {
    char path[4096], link[64], part[256], name[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("HOLD_SYNC"), order);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    ssize_t length = read(file, part, sizeof part - 1);
    close(file);
    if (length <= 0) return 0;
    part[length] = 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, name, sizeof name - 1);
    if (length <= 0) return 0;
    name[length] = 0;
    return strstr(name, part) != NULL;
}

static void tell(const char *word) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("HOLD_SYNC"), word);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) close(file);
}

static int sync_by(const char *call, int fd) {
    while (meant("hold", fd)) {
        tell("held");
        usleep(1000);
    }
    if (meant("fail", fd)) {
        tell("failed");
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, call);
    return real(fd);
}

int fsync(int fd) { return sync_by("fsync", fd); }

int fdatasync(int fd) { return sync_by("fdatasync", fd); }
