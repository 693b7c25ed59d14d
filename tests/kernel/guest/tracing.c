// SPDX-License-Identifier: GPL-2.0-only
// Registers the events of the table as this kernel knows them.
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"

#define TRACING "/sys/kernel/tracing/"

static int marker = -1;
static int on_switch = -1;
static char report[65536];
static size_t report_length;

static void note(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    size_t room = sizeof report - report_length;
    int length = vsnprintf(report + report_length, room, format, arguments);
    va_end(arguments);
    report_length += (size_t)length < room ? (size_t)length : room - 1;
}

const char* probe_report(void) { return report; }

static bool define(const char* definition) {
    int file = open(TRACING "dynamic_events", O_WRONLY | O_APPEND | O_CLOEXEC);
    if (file < 0) fail("this kernel has no dynamic_events: needs CONFIG_FPROBE_EVENTS");
    ssize_t written = write(file, definition, strlen(definition));
    close(file);
    return written >= 0;
}

// Returns are followed by up to 1024 tasks at once where the kernel has such a limit: before Linux
// 6.14 the default is twice the number of CPUs, and what is above it is missed without a word.
// Later kernels refuse the number.
static bool define_probe(const char* group, const char* name, const char* spec) {
    char definition[2048];
    const char* fields = spec + strcspn(spec, " ");
    const bool returns = fields - spec > 7 && !strncmp(fields - 7, "%return", 7);
    snprintf(definition, sizeof definition, "f%s:%s/%s %s", returns ? "1024" : "", group, name,
             spec);
    if (define(definition)) return true;
    if (!returns) return false;
    snprintf(definition, sizeof definition, "f:%s/%s %s", group, name, spec);
    return define(definition);
}

static void enable(const char* event) {
    char path[PATH_MAX_];
    snprintf(path, sizeof path, TRACING "events/%.200s/enable", event);
    must_write(path, "1");
}

static void note_refusal(const char* name, const char* spec) {
    static char log[16384];
    // Entries of three lines: the error, the command, and a mark below it.
    const char* last = log;
    if (read_file(TRACING "error_log", log, sizeof log) > 0) {
        for (const char* at = log; (at = strstr(at, ": error: ")); at += 9) last = at + 9;
    }
    const char* function = spec;
    note("refused %s %.*s: %.*s\n", name, (int)strcspn(function, " "), function,
         (int)strcspn(last, "\n"), *last ? last : "no such function");
}

struct probe {
    char name[32];
    bool required;
    bool found;
};

static void settle(const struct probe* probe) {
    if (!probe->name[0] || probe->found) return;
    if (!probe->required) return;
    archive_add("probes.txt", report, report_length);
    fail("this kernel has nothing for the probe '%s' that the table knows; see probes.txt",
         probe->name);
}

// events/syscalls/sys_enter_NAME and sys_exit_NAME; older kernels lack the newest calls.
static void enable_call(const char* name) {
    static const char* const sides[] = {"enter", "exit"};
    for (int i = 0; i < 2; ++i) {
        char path[PATH_MAX_];
        snprintf(path, sizeof path, TRACING "events/syscalls/sys_%s_%.100s/enable", sides[i], name);
        if (!write_file(path, "1")) note("refused call %s: %s\n", name, strerror(errno));
    }
}

static char* next_word(char** text) {
    char* word = *text + strspn(*text, " ");
    char* end = word + strcspn(word, " ");
    *text = *end ? end + 1 : end;
    *end = 0;
    return word;
}

static void use_line(char* line, struct probe* probe) {
    char* rest = line;
    const char* kind = next_word(&rest);
    char path[PATH_MAX_];
    if (!strcmp(kind, "call")) {
        while (*(rest += strspn(rest, " "))) enable_call(next_word(&rest));
        return;
    }
    if (!strcmp(kind, "event")) {
        while (*(rest += strspn(rest, " "))) enable(next_word(&rest));
        return;
    }
    if (!strcmp(kind, "filter")) {
        const char* name = next_word(&rest);
        snprintf(path, sizeof path, TRACING "events/truth/%.100s/filter", name);
        must_write(path, rest);
        return;
    }
    const char* group = "truth";
    if (!strcmp(kind, "required") || !strcmp(kind, "optional")) {
        settle(probe);
        probe->required = kind[0] == 'r';
        probe->found = false;
        snprintf(probe->name, sizeof probe->name, "%s", next_word(&rest));
    } else if (!strcmp(kind, "also")) {
        group = "truth2";
    } else if (strcmp(kind, "else") != 0) {
        fail("events table: no line begins with '%s'", kind);
    } else if (probe->found) {
        return;
    }
    rest += strspn(rest, " ");
    if (!define_probe(group, probe->name, rest)) {
        note_refusal(probe->name, rest);
        return;
    }
    probe->found = true;
    note("probe %s %s\n", probe->name, rest);
}

void set_up_tracing(const struct config* config, const char* table) {
    static char text[65536];
    char number[32];
    on_switch = open(TRACING "tracing_on", O_WRONLY | O_CLOEXEC);
    marker = open(TRACING "trace_marker", O_WRONLY | O_CLOEXEC);
    if (on_switch < 0 || marker < 0) fail("this kernel has no tracefs");
    tracing_on(false);
    must_write(TRACING "trace_clock", "counter");
    must_write(TRACING "options/overwrite", "0");
    snprintf(number, sizeof number, "%ld", config->buffer_kb);
    must_write(TRACING "buffer_size_kb", number);

    if (read_file(table, text, sizeof text) < 0) fail("no %s in the initramfs", table);
    // A line that begins with a blank belongs to the one before.
    for (char* at = text; (at = strchr(at, '\n')); ++at) {
        if (at[1] == ' ') *at = ' ';
    }
    struct probe probe = {0};
    char* next = NULL;
    for (char* line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        if (line[0] != '#') use_line(line, &probe);
    }
    settle(&probe);
    enable("truth");
    write_file(TRACING "events/truth2/enable", "1");
    archive_add("probes.txt", report, report_length);
}

void mark(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof text) length = sizeof text - 1;
    if (write(marker, text, (size_t)length) >= 0) return;
    // A full buffer refuses with EBADF.
    const long lost = lost_events();
    if (lost > 0) fail("the trace buffer is full, %ld events are lost: make it larger", lost);
    fail("trace_marker: %s", strerror(errno));
}

void tracing_on(bool on) {
    if (write(on_switch, on ? "1" : "0", 1) < 0) fail("tracing_on: %s", strerror(errno));
}

long lost_events(void) {
    static const char* const kinds[] = {"overrun: ", "commit overrun: ", "dropped events: "};
    static char text[4096];
    glob_t cpus;
    long lost = 0;
    if (glob(TRACING "per_cpu/cpu*/stats", 0, NULL, &cpus) != 0) fail("no statistics per CPU");
    for (size_t i = 0; i < cpus.gl_pathc; ++i) {
        if (read_file(cpus.gl_pathv[i], text, sizeof text) < 0) fail("no %s", cpus.gl_pathv[i]);
        for (int kind = 0; kind < 3; ++kind) {
            const char* at = strstr(text, kinds[kind]);
            if (!at) fail("%s has no '%s'", cpus.gl_pathv[i], kinds[kind]);
            lost += atol(at + strlen(kinds[kind]));
        }
    }
    globfree(&cpus);
    return lost;
}
