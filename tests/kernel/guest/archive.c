// SPDX-License-Identifier: GPL-2.0-only
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

enum { BLOCK = 512, CHUNK = 32768 };

static int trace_port = -1;
static int archive_port = -1;

static void send(int port, const char* data, size_t size) {
    while (size > 0) {
        ssize_t sent = write(port, data, size < CHUNK ? size : CHUNK);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) fail("cannot write to a virtio-serial port: %s", strerror(errno));
        data += sent;
        size -= (size_t)sent;
    }
}

// The device node of the port that QEMU was told to call `name`.
static int open_port(const char* name) {
    char path[PATH_MAX_];
    char text[64];
    DIR* ports = opendir("/sys/class/virtio-ports");
    struct dirent* port = NULL;
    while (ports && (port = readdir(ports))) {
        if (port->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%.40s/name", port->d_name);
        if (read_file(path, text, sizeof text) <= 0) continue;
        text[strcspn(text, "\n")] = 0;
        if (strcmp(text, name) != 0) continue;
        snprintf(path, sizeof path, "/dev/%.40s", port->d_name);
        closedir(ports);
        return open(path, O_WRONLY | O_CLOEXEC);
    }
    if (ports) closedir(ports);
    return -1;
}

void open_ports(void) {
    // The ports appear some time after the driver.
    for (int tries = 0; tries < 500 && (trace_port < 0 || archive_port < 0); ++tries) {
        if (trace_port < 0) trace_port = open_port("trace");
        if (archive_port < 0) archive_port = open_port("archive");
        if (trace_port < 0 || archive_port < 0) usleep(10000);
    }
    if (trace_port < 0 || archive_port < 0) {
        fail("no virtio-serial ports: needs CONFIG_VIRTIO_PCI and CONFIG_VIRTIO_CONSOLE");
    }
}

// POSIX.1-1988 ustar: numbers in octal, the checksum over the header with blanks in its place.
void archive_add(const char* name, const char* text, size_t size) {
    if (archive_port < 0) return;
    char header[BLOCK] = {0};
    snprintf(header, 100, "%s", name);
    snprintf(header + 100, 8, "%07o", 0644);  // mode
    snprintf(header + 108, 8, "%07o", 0);     // uid
    snprintf(header + 116, 8, "%07o", 0);     // gid
    snprintf(header + 124, 12, "%011zo", size);
    snprintf(header + 136, 12, "%011o", 0);  // mtime
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 257,
           "ustar\0"
           "00",
           8);
    unsigned sum = 0;
    for (int i = 0; i < BLOCK; ++i) sum += (unsigned char)header[i];
    snprintf(header + 148, 7, "%06o", sum);
    send(archive_port, header, BLOCK);
    send(archive_port, text, size);
    static const char zeros[BLOCK];
    if (size % BLOCK) send(archive_port, zeros, BLOCK - size % BLOCK);
}

void archive_end(void) {
    if (archive_port < 0) return;
    static const char zeros[2 * BLOCK];
    send(archive_port, zeros, sizeof zeros);
    close(archive_port);
    archive_port = -1;
}

void send_trace(const char* path) {
    static char chunk[CHUNK];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail("cannot read %s: %s", path, strerror(errno));
    ssize_t got;
    while ((got = read(file, chunk, sizeof chunk)) > 0) send(trace_port, chunk, (size_t)got);
    if (got < 0) fail("cannot read %s: %s", path, strerror(errno));
    close(file);
    close(trace_port);
}
