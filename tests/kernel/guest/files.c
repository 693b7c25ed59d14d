// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "guest.h"

long read_file(const char* path, char* buffer, size_t size) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    size_t filled = 0;
    ssize_t got = 0;
    while (filled < size - 1 && (got = read(file, buffer + filled, size - 1 - filled)) > 0) {
        filled += (size_t)got;
    }
    close(file);
    buffer[filled] = 0;
    return got < 0 ? -1 : (long)filled;
}

bool write_file(const char* path, const char* text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0) return false;
    ssize_t written = write(file, text, strlen(text));
    int error = errno;
    close(file);
    errno = error;
    return written >= 0;
}

void must_write(const char* path, const char* text) {
    if (!write_file(path, text)) fail("cannot write '%s' to %s: %s", text, path, strerror(errno));
}

void fail(const char* format, ...) {
    static char message[2048];
    static bool failing;
    va_list arguments;
    va_start(arguments, format);
    int length = snprintf(message, sizeof message, "error ");
    length += vsnprintf(message + length, sizeof message - (size_t)length - 1, format, arguments);
    va_end(arguments);
    if (length > (int)sizeof message - 2) length = (int)sizeof message - 2;
    message[length] = '\n';
    message[length + 1] = 0;
    fprintf(stderr, "truth: %s", message);
    if (!failing) {  // the ports themselves may be what failed
        failing = true;
        archive_add("result.txt", message, strlen(message));
        archive_end();
    }
    sync();
    reboot(RB_POWER_OFF);
    _exit(1);
}
