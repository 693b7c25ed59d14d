// SPDX-License-Identifier: GPL-2.0-only
// A program that loads many libraries and forks: private copies of file pages, in many small VMAs
// whose offsets in their files are alike. The arguments name the libraries.
#include "workload.h"

#include <dlfcn.h>

enum { LIBRARIES_MAX = 64 };

static void* handles[LIBRARIES_MAX];

static void touch_one(int number, int page) {
    int (*touch)(int) = (int (*)(int))dlsym(handles[number], "touch");
    require(touch && touch(page) == 0, "touch");
}

int main(int argc, char** argv) {
    const int n = argc - 1 < LIBRARIES_MAX ? argc - 1 : LIBRARIES_MAX;
    for (int i = 0; i < n; ++i) {
        handles[i] = dlopen(argv[i + 1], RTLD_NOW | RTLD_LOCAL);
        if (!handles[i]) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    walk("loaded");
    for (int generation = 0; generation < 3; ++generation) {
        const pid_t child = fork_or_die();
        if (child == 0) {
            for (int i = generation; i < n; i += 3) touch_one(i, generation);
            for (int i = 0; i < n; i += 4) dlclose(handles[i]);
            walk("child");
            handles[0] = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);  // mapped anew
            require(handles[0], "dlopen");
            touch_one(0, 1);
            const pid_t grandchild = fork_or_die();
            if (grandchild == 0) {
                for (int i = 1; i < n; i += 4) touch_one(i, 2);
                walk("grandchild");
                _exit(0);
            }
            reap(grandchild);
            _exit(0);
        }
        reap(child);
        for (int i = 0; i < n; i += 2) touch_one(i, generation);
        walk("parent");
    }
    return 0;
}
