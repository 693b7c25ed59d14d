// SPDX-License-Identifier: GPL-2.0-only
#include "tests/native/check.hpp"
#include "tests/native/damage.hpp"
#include "tests/native/tracefs_text.hpp"

using namespace tracefs_text;

namespace {

std::string walk(int count, int tid, const std::string& flags = "0x100",
                 const std::string& flags_1 = "0x0") {
    return event(
        count, tid, "walk",
        "folio=0xd0 flags=" + flags + " f1=" + flags_1 + " map=0xc1 idx=0x5 mc=0 locked=0");
}
std::string iterated(int count, int tid, const std::string& avc, const std::string& which = "itn") {
    return event(count, tid, which, "av=0xc0 s=0x5 l=0x5 avc=" + avc);
}
std::string visit(int count, int tid, const std::string& probe, const std::string& vma,
                  const std::string& mm, const std::string& start = "0x5000") {
    return event(
        count, tid, probe,
        "folio=0xd0 addr=0x5000 vma=" + vma + " mm=" + mm + " start=" + start + " end=0x9000");
}
std::string checked(int count, int tid, const std::string& vma, const std::string& addr,
                    int found) {
    return event(
        count, tid, "pvmw",
        "vma=" + vma + " pfn=0x1 addr=" + addr + " pte0=0x0 fl=0x0 ret=" + std::to_string(found));
}
std::string walked(int count, int tid) { return event(count, tid, "walkx", "folio=0xd0"); }
// A whole walk that visits 0xf0 of mm 0xa1 and finds the folio at 0x6000, and ends of itself.
std::string whole_walk(int count, int tid, const std::string& probe) {
    return walk(count, tid) + iterated(count + 1, tid, "0xe0", "itf") +
           visit(count + 2, tid, probe, "0xf0", "0xa1") +
           checked(count + 3, tid, "0xf0", "0x6000", 1) +
           checked(count + 4, tid, "0xf0", "0x7000", 0) + iterated(count + 5, tid, "0x0") +
           walked(count + 6, tid);
}

std::string avc_ins(int count, int tid, const std::string& avc, const std::string& av,
                    const std::string& mm, const std::string& root, const std::string& parent,
                    const std::string& vma = "0xb0", const std::string& end = "0x9000") {
    return event(count, tid, "avc_ins",
                 "avc=" + avc + " av=" + av + " root=" + root + " par=" + parent + " vma=" + vma +
                     " mm=" + mm + " start=0x5000 end=" + end +
                     " pgoff=0x5 alo=0x5 ahi=0x0 vav=" + av + " nch=1 nact=0");
}
std::string avc_rm(int count, int tid, const std::string& avc, const std::string& vma = "0xb0") {
    return event(count, tid, "avc_rm", "avc=" + avc + " av=0x0 vma=" + vma + " nch=1 nact=1");
}
std::string unlink(int count, int tid, const std::string& vma = "0xb0") {
    return event(count, tid, "av_unlink", "vma=" + vma + " mm=0xa1 start=0x5000 end=0x9000 av=0x0");
}
std::string av_free(int count, int tid, const std::string& av) {
    return event(count, tid, "av_free", "av=" + av + " root=0x0");
}
std::string vma_new(int count, int tid, const std::string& mm, const std::string& vma) {
    return at(count, tid,
              "vma_new: (__mmap_region+0x1/0x2 <- vm_area_alloc) mm=" + mm + " vma=" + vma);
}
std::string vma_free(int count, int tid, const std::string& vma) {
    return event(count, tid, "vma_free", "vma=" + vma + " mm=0xa1 start=0x5000 end=0x9000");
}
// The rows of `table` from time `from` on.
std::string since(const std::string& table, int from) {
    std::string out;
    std::size_t at = 0;
    while (at < table.size()) {
        const std::size_t end = table.find('\n', at) + 1;
        const std::string line = table.substr(at, end - at);
        if (std::stoi(line.substr(line.find("time=") + 5)) >= from) out += line;
        at = end;
    }
    return out;
}
std::string objects(const std::string& text) { return since(parse(start() + text).objects, 10); }

}  // namespace

// ---- walks ----

TEST_CASE("a walk is a row at a mapping of the folio, and its visits go into the answer key") {
    const Parsed parsed = parse(
        start() + fork(10, 7, 8, "0xa2") + walk(20, 5, "0x40", "0x104") +
        iterated(21, 5, "0xe0", "itf") + visit(22, 5, "v_migr", "0xf0", "0xa1") +
        checked(23, 5, "0xf0", "0x5000", 0) + iterated(24, 5, "0xe1") +
        visit(25, 5, "v_migr", "0xf1", "0xa2", "0x6000") + checked(26, 5, "0xf1", "0x6000", 1) +
        checked(27, 5, "0xf1", "0x7000", 1) + walked(28, 5));
    CHECK(parsed.rows.ends_with("20 walk 8/8 addr=0x6000 order=4 kind=migrate\n"));
    CHECK(parsed.visits ==
          "time=20 walk=0 visit=0 pid=7 start=0x5000 end=0x9000 found=0 stopped=0\n"
          "time=20 walk=0 visit=1 pid=8 start=0x6000 end=0x9000 found=2 stopped=1\n");
}

TEST_CASE("kinds of walks, and which end of themselves") {
    const Parsed parsed =
        parse(start() + whole_walk(10, 5, "v_ref") + whole_walk(20, 5, "v_unmap") +
              whole_walk(30, 5, "v_migr") + whole_walk(40, 5, "v_rmig") +
              whole_walk(50, 5, "v_old") + whole_walk(60, 5, "v_young"));
    CHECK(parsed.rows == kStarted +
                             "10 walk 7/7 addr=0x6000 kind=referenced\n"
                             "20 walk 7/7 addr=0x6000 kind=unmap\n"
                             "30 walk 7/7 addr=0x6000 kind=migrate\n"
                             "40 walk 7/7 addr=0x6000 kind=all\n"
                             "50 walk 7/7 addr=0x6000 kind=all\n"
                             "60 walk 7/7 addr=0x6000 kind=all\n");
    CHECK(parsed.visits.find("stopped=1") == std::string::npos);
    CHECK(parsed.visits.find("time=60 walk=5 visit=0") != std::string::npos);
}

TEST_CASE("a huge entry that split_huge_page() takes before try_to_migrate() looks was found") {
    const auto removed = [](int count) { return event(count, 5, "fo_rmd", "folio=0x1 vma=0xf0"); };
    const auto walk_with = [&](const std::string& probe, const std::string& looked) {
        return parse(
            start() + walk(20, 5, "0x40", "0x109") + iterated(21, 5, "0xe0", "itf") +
            event(22, 5, probe, "vma=0xf0 mm=0xa1 start=0x100000 end=0x600000 addr=0x200000") +
            looked + removed(24) + iterated(25, 5, "0x0") + walked(26, 5));
    };
    const Parsed split = walk_with("v_migr", "");
    CHECK(split.rows.ends_with("20 walk 7/7 addr=0x200000 order=9 kind=migrate\n"));
    CHECK(split.visits.find(" found=1 ") != std::string::npos);
    // What was found before is not counted twice, and no other walk takes it beforehand.
    const Parsed moved = walk_with("v_migr", checked(23, 5, "0xf0", "0x200000", 1));
    CHECK(moved.visits.find(" found=1 ") != std::string::npos);
    CHECK(walk_with("v_unmap", "").visits.empty());
}

TEST_CASE("two walks at once are numbered as their rows are ordered") {
    const Parsed parsed =
        parse(start() + walk(10, 5) + iterated(11, 5, "0xe0", "itf") +
              visit(12, 5, "v_rmig", "0xf0", "0xa1") + whole_walk(13, 6, "v_ref") +
              checked(20, 5, "0xf0", "0x8000", 1) + iterated(21, 5, "0x0") + walked(22, 5));
    CHECK(parsed.rows == kStarted +
                             "10 walk 7/7 addr=0x8000 kind=all\n"
                             "13 walk 7/7 addr=0x6000 kind=referenced\n");
    CHECK(parsed.visits ==
          "time=10 walk=0 visit=0 pid=7 start=0x5000 end=0x9000 found=1 stopped=0\n"
          "time=13 walk=1 visit=0 pid=7 start=0x5000 end=0x9000 found=1 stopped=0\n");
}

TEST_CASE("walks without a row, by reason; the numbering leaves them out") {
    const Parsed parsed = parse(
        start() + walk(10, 5) + iterated(11, 5, "0x0", "itf") + walked(12, 5) +  //
        walk(13, 5) + visit(14, 5, "v_ref", "0xf0", "0xa1") + walked(15, 5) +    //
        walk(16, 5) + visit(17, 5, "v_ref", "0xf0", "0x99") + checked(18, 5, "0xf0", "0x5000", 1) +
        walked(19, 5) +  //
        walk(20, 5) + iterated(21, 5, "0xe0", "itf") + visit(22, 5, "v_young", "0xf0", "0xa1") +
        checked(23, 5, "0xf0", "0x5000", 1) + walked(24, 5) +  //
        visit(25, 5, "v_ref", "0xf0", "0xa1") + event(26, 5, "ksmwalk", "folio=0xd0 map=0x3") +
        walk(27, 6) + whole_walk(30, 5, "v_ref"));
    CHECK(parsed.rows == kStarted + "30 walk 7/7 addr=0x6000 kind=referenced\n");
    CHECK(parsed.visits ==
          "time=30 walk=0 visit=0 pid=7 start=0x5000 end=0x9000 found=1 stopped=0\n");
    for (const char* reason :
         {"walk_without_visit", "walk_without_mapping", "walk_of_other_process",
          "walk_of_damon_stopped", "visit_outside_anon_walk", "walk_of_ksm_folio",
          "walk_end_not_seen"}) {
        CHECK(parsed.stats.dropped[reason] == u64{1});
    }
}

TEST_CASE("bursts carry the launcher's label") {
    const Parsed parsed = parse(
        start() + at(10, 5, "tracing_mark_write: H1 WALK_BEGIN n=3 trig=t nproc=2 label=a, b") +
        at(14, 5, "tracing_mark_write: H1 WALK_END n=3 present=1"));
    CHECK(parsed.bursts == "time=10 end_time=14 burst=3 label=a, b\n");
}

// ---- objects ----

TEST_CASE("VMAs live from vm_area_alloc or vm_area_dup to vm_area_free") {
    CHECK(objects(vma_new(10, 7, "0xa1", "0xb0") + event(11, 7, "vma_dup", "orig=0xb0 vma=0xb1") +
                  vma_free(12, 7, "0xb0") + vma_free(13, 7, "0xbad") +
                  vma_new(14, 7, "0xa1", "0xb0")) ==
          "time=10 object=vm_area_struct action=alloc id=2 mm=1 pid=7\n"
          "time=11 object=vm_area_struct action=alloc id=3 mm=1 pid=7\n"
          "time=12 object=vm_area_struct action=free id=2 mm=1 pid=7 start=0x5000 end=0x9000\n"
          "time=14 object=vm_area_struct action=alloc id=4 mm=1 pid=7\n");
}

TEST_CASE("a chain is allocated once, re-inserted with a new range, and freed when unlinked") {
    CHECK(objects(vma_new(10, 7, "0xa1", "0xb0") +
                  avc_ins(11, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0") + avc_rm(12, 7, "0xe0") +
                  avc_ins(13, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0", "0xb0", "0x8000") +
                  unlink(14, 7) + avc_rm(15, 7, "0xe0") + av_free(16, 7, "0xc0") +
                  avc_rm(17, 7, "0xbad")) ==
          "time=10 object=vm_area_struct action=alloc id=2 mm=1 pid=7\n"
          "time=11 object=anon_vma action=alloc id=1 mm=1 pid=7 root=1 parent=1\n"
          "time=11 object=anon_vma_chain action=alloc id=1 mm=1 pid=7 start=0x5000 end=0x9000 "
          "vma=2 anon_vma=1\n"
          "time=11 object=anon_vma_chain action=insert id=1 mm=1 pid=7 start=0x5000 end=0x9000 "
          "vma=2 anon_vma=1\n"
          "time=12 object=anon_vma_chain action=remove id=1 mm=1 pid=7 start=0x5000 end=0x9000 "
          "vma=2 anon_vma=1\n"
          "time=13 object=anon_vma_chain action=insert id=1 mm=1 pid=7 start=0x5000 end=0x8000 "
          "vma=2 anon_vma=1\n"
          "time=15 object=anon_vma_chain action=remove id=1 mm=1 pid=7 start=0x5000 end=0x8000 "
          "vma=2 anon_vma=1\n"
          "time=15 object=anon_vma_chain action=free id=1 mm=1 pid=7 start=0x5000 end=0x8000 "
          "vma=2 anon_vma=1\n"
          "time=16 object=anon_vma action=free id=1\n");
}

TEST_CASE("what a fork makes belongs to the child, whose number comes only afterwards") {
    CHECK(objects(event(10, 7, "mm_dup", "mm=0xa2 oldmm=0xa1") +
                  event(11, 7, "vma_dup", "orig=0xb0 vma=0xb5") + vma_new(12, 7, "0xa1", "0xb6") +
                  event(13, 7, "mm_dupx", "mm=0xa2 ret=0") + new_task(14, 7, 8, "1200000")) ==
          "time=11 object=vm_area_struct action=alloc id=2 mm=2 pid=8\n"
          "time=12 object=vm_area_struct action=alloc id=3 mm=1 pid=7\n");
}

TEST_CASE("a root that its last member held goes with it, unless its own free follows") {
    const std::string made = avc_ins(10, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0") +
                             avc_ins(11, 7, "0xe1", "0xc1", "0xa1", "0xc0", "0xc0") +
                             unlink(12, 7) + avc_rm(13, 7, "0xe0") + avc_rm(14, 7, "0xe1");
    const std::string silent =
        objects(made + av_free(15, 7, "0xc1") + unlink(16, 7) + av_free(17, 7, "0xc0"));
    CHECK(since(silent, 15) ==
          "time=15 object=anon_vma action=free id=2\n"
          "time=15 object=anon_vma action=free id=1\n");
    const std::string told = objects(made + av_free(15, 7, "0xc1") + av_free(16, 7, "0xc0"));
    CHECK(since(told, 15) ==
          "time=15 object=anon_vma action=free id=2\n"
          "time=16 object=anon_vma action=free id=1\n");
    // Somebody is still linked to the root.
    const std::string held =
        objects(avc_ins(10, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0") +
                avc_ins(11, 7, "0xe1", "0xc1", "0xa1", "0xc0", "0xc0") + unlink(12, 7) +
                avc_rm(13, 7, "0xe1") + av_free(15, 7, "0xc1") + unlink(16, 7));
    CHECK(since(held, 15) == "time=15 object=anon_vma action=free id=2\n");
}

TEST_CASE("an anon_vma that fork allocated and could spare lived from its beginning to its free") {
    const std::string fork_start = event(10, 7, "mm_dup", "mm=0xa2 oldmm=0xa1");
    const std::string fork_end =
        event(20, 7, "mm_dupx", "mm=0xa2 ret=0") + new_task(21, 7, 8, "1200000");
    CHECK(objects(fork_start + event(11, 7, "av_fork", "vma=0xb5 pvma=0xb0") +
                  vma_new(12, 9, "0xa1", "0xb6") + av_free(13, 7, "0xc5") +
                  event(14, 7, "av_forkx", "vma=0xb5 ret=0") + fork_end) ==
          "time=11 object=anon_vma action=alloc id=1 mm=2 pid=8\n"
          "time=12 object=vm_area_struct action=alloc id=2 mm=1 pid=7\n"
          "time=13 object=anon_vma action=free id=1 mm=2 pid=8\n");
    CHECK(objects(fork_start + event(11, 7, "av_fork", "vma=0xb5 pvma=0xb0") +
                  event(14, 7, "av_forkx", "vma=0xb5 ret=0") + av_free(15, 7, "0xc5") + fork_end) ==
          "");
}

TEST_CASE("objects of other processes are left out, also where an address is used again") {
    CHECK(objects(at(10, 7, "sched_process_exit: comm=a pid=7 prio=120 group_dead=true") +
                  event(11, 7, "mm_exit", "mm=0xa1") +
                  at(12, 5, "vma_new: (create_init_stack_vma+0x1/0x2 <- f) mm=0xa1 vma=0xb7") +
                  avc_ins(13, 5, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0", "0xb7") +
                  vma_free(14, 5, "0xb7")) == "");
}

TEST_CASE("the same answer however the text is cut") {
    const std::string text = start() + fork(10, 7, 8, "0xa2") +
                             fault(13, 8, "0xa2", "0x5000", "0x41") + whole_walk(20, 5, "v_rmig") +
                             vma_new(30, 7, "0xa1", "0xb0") +
                             avc_ins(31, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0") +
                             at(40, 5, "tracing_mark_write: H1 WALK_BEGIN n=3 label=x");
    const Parsed whole = parse(text);
    for (std::size_t chunk : {1, 2, 7, 64, 100, 1000}) {
        const Parsed cut = parse(text, chunk);
        CHECK(cut.rows == whole.rows);
        CHECK(cut.visits == whole.visits);
        CHECK(cut.objects == whole.objects);
        CHECK(cut.bursts == whole.bursts);
        CHECK(cut.stats.lines == whole.stats.lines);
    }
    CHECK(parse(text.substr(0, text.size() - 1)).bursts == whole.bursts);
}

TEST_CASE("tracefs: damaged text never breaks the parser") {
    const std::string text =
        start() + event(10, 7, "mm_dup", "mm=0xa2 oldmm=0xa1") +
        event(11, 7, "av_fork", "vma=0xb5 pvma=0xb0") + av_free(12, 7, "0xc5") +
        event(13, 7, "av_forkx", "vma=0xb5 ret=0") + event(14, 7, "mm_dupx", "mm=0xa2 ret=0") +
        new_task(15, 7, 8, "1200000") + fault(16, 8, "0xa2", "0x5000", "0x41") +
        vma_new(18, 7, "0xa1", "0xb0") + avc_ins(19, 7, "0xe0", "0xc0", "0xa1", "0xc0", "0xc0") +
        avc_ins(20, 7, "0xe1", "0xc1", "0xa2", "0xc0", "0xc0") + whole_walk(21, 5, "v_rmig") +
        at(30, 7, "sys_mmap(addr: 0, len: 0x2000, prot: 3, flags: 0x22, fd: 0xffffffff, off: 0)") +
        event(31, 7, "mmap",
              "file=0x0 addr=0x0 len=0x2000 prot=0x3 flags=0x22 pgoff=0x0 ret=0x5000") +
        at(32, 7, "sys_mmap -> 0x5000") + unlink(33, 7) + avc_rm(34, 7, "0xe0") +
        avc_rm(35, 7, "0xe1") + av_free(36, 7, "0xc1") + exec_from(37, 7, "0xa4") +
        vma_map(39, 7, "0xa4", "0x7000", "0x28000", "0x100173", "0xde") + exec_to(40, 7) +
        at(42, 8, "sched_process_exit: comm=a pid=8 prio=120 group_dead=true") +
        event(43, 8, "mm_exit", "mm=0xa2");
    const u64 whole = parse(text).stats.lines;
    Damage damage;
    u64 lines = 0;
    for (int i = 0; i < 2000; ++i) {
        const std::string damaged = damage(text);
        const Parsed parsed = parse(damaged, 1 + damage.random(200));
        CHECK(parse(damaged).rows == parsed.rows);
        lines += parsed.stats.lines;
    }
    CHECK(lines > 1900 * whole);
}
