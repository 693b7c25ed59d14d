// SPDX-License-Identifier: GPL-2.0-only
// Memory of a Python object that native code writes to.
#pragma once

#include <nanobind/nanobind.h>

#include <stdexcept>

namespace rmapreplay {

// The first bytes of an object's buffer (a bytearray, an mmap), which stays where it is while this
// lives. Made and destroyed with the GIL held.
class WritableBuffer {
  public:
    // Throws nb::python_error if the object has no such buffer, std::invalid_argument if it is
    // small.
    WritableBuffer(nanobind::object object, std::size_t bytes) {
        if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_WRITABLE))
            throw nanobind::python_error();
        if (static_cast<std::size_t>(view_.len) < bytes) {
            PyBuffer_Release(&view_);
            throw std::invalid_argument("buffer is too small");
        }
    }
    ~WritableBuffer() { PyBuffer_Release(&view_); }
    WritableBuffer(const WritableBuffer&) = delete;
    WritableBuffer& operator=(const WritableBuffer&) = delete;
    void* data() const { return view_.buf; }

  private:
    Py_buffer view_{};
};

}  // namespace rmapreplay
