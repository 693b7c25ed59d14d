# SPDX-License-Identifier: GPL-2.0-only
"""Processes that begin, copy themselves and end, whole and in parts."""

from __future__ import annotations

from rmapreplay.testing.calls import DONTFORK, KEEPONFORK, WIPEONFORK, Calls
from rmapreplay.testing.scenarios.case import Cases, X, Y, Z

case = Cases("processes")


@case()
def exec_has_a_moved_stack(c: Calls) -> None:
    """exec's stack is not where the offsets of its pages say; it grows, and fork shares it."""
    a = c.exec()
    stack = c.naive.spaces[a].stack
    c.write_stack(a, stack)
    c.write_stack(a, stack - 2)
    b = c.fork(a)
    c.write_stack(b, stack - 3)
    c.write_stack(a, stack)


@case()
def exec_after_fork(c: Calls) -> None:
    """A child execs: what it shared is its parent's again, and its new memory nobody else's."""
    a = c.exec()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.exec(b, args=3)
    c.mmap(b, X, 2)
    c.write(b, X, 2)
    c.fork(b)


@case()
def parent_execs(c: Calls) -> None:
    """The parent execs while its child keeps what they shared."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.exec(a)
    c.fork(b)
    c.write(b, X)


@case()
def vfork(c: Calls) -> None:
    """A vfork'd child writes to its parent's memory, and execs; another one exits."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X)
    b = c.vfork(a)
    c.write(b, X + 1)
    c.exec(b)
    d = c.vfork(a)
    c.mmap(d, Y, 1)
    c.write(d, Y)
    c.exit(d)
    c.fork(a)


@case()
def the_parent_of_a_vfork_exits(c: Calls) -> None:
    """A vfork'd child is the last user of the address space, and forks."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.vfork(a)
    c.exit(a)
    d = c.fork(b)
    c.write(d, X)


@case()
def fork_server(c: Calls) -> None:
    """A server forks a worker after the other; each writes a little and exits, not in order."""
    server = c.process()
    c.mmap(server, X, 6)
    c.write(server, X, 6)
    workers = []
    for i in range(6):
        workers.append(c.fork(server))
        c.write(workers[-1], X + i)
        c.write(server, X + 5 - i)
        if i % 2:
            c.exit(workers.pop(0))
    for worker in reversed(workers):
        c.exit(worker)
    c.fork(server)


@case()
def chain_whose_middle_dies(c: Calls) -> None:
    """Each of a chain of forks writes its share; those in the middle exit, the last forks on."""
    chain = [c.process()]
    c.mmap(chain[0], X, 6)
    c.write(chain[0], X, 6)
    for i in range(5):
        chain.append(c.fork(chain[-1]))
        c.write(chain[-1], X + i)
    for pid in (chain[2], chain[3], chain[1]):
        c.exit(pid)
    last = c.fork(chain[5])
    c.write(last, X + 4)
    c.exit(chain[0])


@case()
def forks_take_turns(c: Calls) -> None:
    """A child that has gone leaves room for the next one's (an anon_vma can be used again)."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    for _ in range(3):
        b = c.fork(a)
        d = c.fork(b)
        c.exit(b)
        c.write(d, X)
        c.exit(a)
        a = d


@case()
def not_for_children(c: Calls) -> None:
    """MADV_DONTFORK keeps a mapping from the child, MADV_WIPEONFORK its content."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    c.madvise(a, X + 1, 2, DONTFORK)
    c.madvise(a, X + 3, 2, WIPEONFORK)
    b = c.fork(a)
    c.write(b, X + 3)
    c.madvise(a, X + 3, 2, KEEPONFORK)
    d = c.fork(a)
    c.fork(b)
    c.write(d, X + 3)


@case()
def locked_memory(c: Calls) -> None:
    """Locked memory is written at once, and at fork; a child's is not locked any more."""
    a = c.process()
    c.mmap(a, X, 8)
    c.mlock(a, X + 2, 3)
    b = c.fork(a)
    c.mlock(b, X, 4, on_fault=True)
    c.populate(b, X, 2)
    c.munlock(a, X + 3, 1)
    c.write(a, X + 2, 2)
    c.fork(b)
    c.munlock(b, X, 4)


@case()
def parent_goes_on_before_its_child_is_there(c: Calls) -> None:
    """Between the copy of the address space and the child's first moment the parent unmaps, moves,
    writes, and maps."""
    a = c.process()
    c.mmap(a, X, 4)
    c.mmap(a, Y, 2)
    c.write(a, X, 4)
    c.write(a, Y, 2)
    c.begin_fork(a)
    c.munmap(a, X, 1)
    c.mremap(a, Y, 2, Z, 2)
    c.write(a, X + 1)
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.end_fork(a)
    c.write(b, X + 1)


@case()
def copied_in_parts(c: Calls) -> None:
    """The copy of an address space goes on while another process writes to what is shared."""
    a = c.process()
    for at in (X, Y, Z):
        c.mmap(a, at, 2)
        c.write(a, at, 2)
    b = c.fork(a)
    c.begin_fork(a, Y)
    c.write(b, X)
    c.write(b, Y)
    c.go_on_forking(a, Y, Z)
    c.munmap(b, Z, 2)
    c.go_on_forking(a, Z)
    c.write(b, X + 1)
    c.end_fork(a)


@case(teardown="vmas")
def vmas_go_late(c: Calls) -> None:
    """The last user of an address space has exited, its VMAs and their links are still there."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.exit(a)
    c.fork(b)
    c.write(b, X)
    c.end_spaces()


@case(teardown="all")
def torn_down_step_by_step(c: Calls) -> None:
    """An address space without users is walked before its pages go, before its links go, and before
    its VMAs are freed; its relatives live on."""
    a = c.process()
    c.mmap(a, X, 3)
    c.write(a, X, 3)
    b = c.fork(a)
    c.write(b, X)
    d = c.fork(b)
    c.exit(b)
    c.write(d, X + 1)
    c.end_space()
    c.write(a, X + 2)
    c.end_space()
    e = c.fork(d)
    c.end_space()
    c.exec(e)
    c.end_spaces()
