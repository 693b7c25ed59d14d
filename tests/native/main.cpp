// SPDX-License-Identifier: GPL-2.0-only
// Runs every TEST_CASE, or those whose name contains the first argument.
#include "tests/native/check.hpp"

int main(int argc, char** argv) {
    const std::string_view wanted = argc > 1 ? argv[1] : "";
    unsigned run = 0;
    for (const check::Case& test : check::cases()) {
        if (std::string_view(test.name).find(wanted) == std::string_view::npos) continue;
        ++run;
        const unsigned before = check::tally().failures;
        try {
            test.run();
        } catch (const check::Abandon&) {
        } catch (const std::exception& error) {
            check::report(false, test.name, 0, "unexpected exception", error.what());
        }
        if (check::tally().failures != before) std::fprintf(stderr, "FAILED: %s\n", test.name);
    }
    const check::Tally& counts = check::tally();
    std::printf("native: %u cases, %u checks, %u failures\n", run, counts.checks, counts.failures);
    return counts.failures != 0 || run == 0 ? 1 : 0;
}
