// SPDX-License-Identifier: GPL-2.0-only
// A test harness in one header, so that the core's tests need nothing but a compiler:
// TEST_CASE("name") { CHECK(a == b); REQUIRE(p); CHECK_THROWS_AS(f(), std::invalid_argument); }
#pragma once

#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace check {

struct Case {
    const char* name;
    void (*run)();
};
inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}
struct Tally {
    unsigned checks = 0;
    unsigned failures = 0;
};
inline Tally& tally() {
    static Tally counts;
    return counts;
}
struct Register {
    Register(const char* name, void (*run)()) { cases().push_back({name, run}); }
};
struct Abandon {};  // thrown by a failed REQUIRE

template <class T>
std::string show(const T& value) {
    std::ostringstream out;
    if constexpr (std::is_enum_v<T>) {
        out << static_cast<long long>(value);
    } else if constexpr (sizeof(T) == 1 && std::is_integral_v<T>) {
        out << static_cast<int>(value);
    } else if constexpr (requires { out << value; }) {
        out << value;
    } else {
        out << "?";
    }
    return out.str();
}

inline bool report(bool ok, const char* file, int line, const char* text,
                   const std::string& values = {}) {
    ++tally().checks;
    if (!ok) {
        ++tally().failures;
        std::fprintf(stderr, "%s:%d: failed: %s%s%s\n", file, line, text,
                     values.empty() ? "" : "  with  ", values.c_str());
    }
    return ok;
}

// Takes `a == b` apart, so that a failure can show both sides: Left{} <= a == b.
template <class T>
struct Operand {
    const T& left;
    struct Outcome {
        bool ok;
        std::string values;
    };
    template <class U, class F>
    Outcome compare(const U& right, const char* op, F test) const {
        const bool ok = test(left, right);
        return {ok, ok ? std::string{} : show(left) + op + show(right)};
    }
#define RMAPREPLAY_CHECK_OP(op)                                                            \
    template <class U>                                                                     \
    Outcome operator op(const U& right) const {                                            \
        return compare(right, " " #op " ", [](const T& a, const U& b) { return a op b; }); \
    }
    RMAPREPLAY_CHECK_OP(==)
    RMAPREPLAY_CHECK_OP(!=)
    RMAPREPLAY_CHECK_OP(<)
    RMAPREPLAY_CHECK_OP(<=)
    RMAPREPLAY_CHECK_OP(>)
    RMAPREPLAY_CHECK_OP(>=)
#undef RMAPREPLAY_CHECK_OP
};
struct Left {
    template <class T>
    Operand<T> operator<<(const T& value) const {
        return {value};
    }
};
template <class T>
bool verdict(const Operand<T>& single, const char* file, int line, const char* text) {
    return report(static_cast<bool>(single.left), file, line, text);
}
template <class Outcome>
    requires requires(const Outcome& o) { o.values; }
bool verdict(const Outcome& outcome, const char* file, int line, const char* text) {
    return report(outcome.ok, file, line, text, outcome.values);
}

}  // namespace check

#define RMAPREPLAY_CHECK_CAT_(a, b) a##b
#define RMAPREPLAY_CHECK_CAT(a, b) RMAPREPLAY_CHECK_CAT_(a, b)
#define RMAPREPLAY_CHECK_CASE(name, id, registered)      \
    static void id();                                    \
    static const ::check::Register registered(name, id); \
    static void id()
#define TEST_CASE(name)                                                      \
    RMAPREPLAY_CHECK_CASE(name, RMAPREPLAY_CHECK_CAT(check_case_, __LINE__), \
                          RMAPREPLAY_CHECK_CAT(check_registered_, __LINE__))

#define CHECK(...) \
    ::check::verdict(::check::Left{} << __VA_ARGS__, __FILE__, __LINE__, #__VA_ARGS__)
#define CHECK_FALSE(...) ::check::report(!(__VA_ARGS__), __FILE__, __LINE__, "!(" #__VA_ARGS__ ")")
#define CHECK_EQ(a, b) CHECK((a) == (b))
#define REQUIRE(...) (CHECK(__VA_ARGS__) ? static_cast<void>(0) : throw ::check::Abandon{})
#define CHECK_THROWS_AS(expr, type)                                          \
    do {                                                                     \
        bool thrown = false;                                                 \
        try {                                                                \
            static_cast<void>(expr);                                         \
        } catch (const type&) {                                              \
            thrown = true;                                                   \
        }                                                                    \
        ::check::report(thrown, __FILE__, __LINE__, #expr " throws " #type); \
    } while (false)
#define CHECK_NOTHROW(expr)                                                  \
    do {                                                                     \
        bool quiet = true;                                                   \
        try {                                                                \
            static_cast<void>(expr);                                         \
        } catch (...) {                                                      \
            quiet = false;                                                   \
        }                                                                    \
        ::check::report(quiet, __FILE__, __LINE__, #expr " does not throw"); \
    } while (false)
