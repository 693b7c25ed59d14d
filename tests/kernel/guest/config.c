// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"

// One setting per line, `key value`; each `arg` adds one to the workload's argv.
void read_config(struct config* config, const char* path) {
    static char text[16384];
    if (read_file(path, text, sizeof text) < 0) fail("no %s in the initramfs", path);
    int n_args = 0;
    char* next = NULL;
    for (char* line = strtok_r(text, "\n", &next); line; line = strtok_r(NULL, "\n", &next)) {
        char* value = strchr(line, ' ');
        if (!value) fail("%s: no value in '%s'", path, line);
        *value++ = 0;
        if (!strcmp(line, "thp")) {
            snprintf(config->thp, sizeof config->thp, "%s", value);
        } else if (!strcmp(line, "folio_size")) {
            if (config->n_folio_sizes == 16) fail("%s: too many folio sizes", path);
            char* size = config->folio_sizes[config->n_folio_sizes++];
            snprintf(size, sizeof config->folio_sizes[0], "%s", value);
        } else if (!strcmp(line, "swap_mb")) {
            config->swap_mb = atol(value);
        } else if (!strcmp(line, "buffer_kb")) {
            config->buffer_kb = atol(value);
        } else if (!strcmp(line, "timer_ms")) {
            config->timer_ms = atol(value);
        } else if (!strcmp(line, "limit_s")) {
            config->limit_s = atol(value);
        } else if (!strcmp(line, "trigger")) {
            if (!is_trigger(value)) fail("%s: there is no trigger '%s'", path, value);
            snprintf(config->trigger, sizeof config->trigger, "%s", value);
        } else if (!strcmp(line, "arg")) {
            if (n_args == ARGS_MAX) fail("%s: more than %d arguments", path, ARGS_MAX);
            config->args[n_args++] = value;
        } else {
            fail("%s: there is no setting '%s'", path, line);
        }
    }
    if (n_args == 0) fail("%s names no workload", path);
}
