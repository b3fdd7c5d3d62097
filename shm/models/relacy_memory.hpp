// Shared memory for the model tests: cells that run the project's templates on relacy's atomics.
// Include standard headers and the templates first, because relacy redefines names that they use.
//
// With --weaken NAME a model relaxes the order of that name and must find the race that it
// prevents.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <optional>
#include <string>

#include "shm/shared_lines.hpp"

// clang-format off: relacy stays last.
#include <relacy/relacy.hpp>
// clang-format on

namespace model {

// The name of the order that this run relaxes; empty: none.
inline std::string g_weakened;

inline rl::memory_order relacy_order(std::memory_order order, const char* name) {
  if (g_weakened == name) return rl::mo_relaxed;
  switch (order) {
    case std::memory_order::relaxed:
      return rl::mo_relaxed;
    case std::memory_order::acquire:
      return rl::mo_acquire;
    case std::memory_order::release:
      return rl::mo_release;
    default:
      return rl::mo_seq_cst;
  }
}

// One 64-bit word. Its loads and its stores have names, by which --weaken picks them.
class Cell {
 public:
  Cell(rl::atomic<std::uint64_t>* word, const char* load_name, const char* store_name)
      : word_(word), load_name_(load_name), store_name_(store_name) {}
  std::uint64_t load(std::memory_order order) const {
    return word_->load(relacy_order(order, load_name_), $);
  }
  void store(std::uint64_t value, std::memory_order order) const {
    word_->store(value, relacy_order(order, store_name_), $);
  }

 private:
  rl::atomic<std::uint64_t>* word_;
  const char* load_name_;
  const char* store_name_;
};

// Runs a model over all interleavings. Returns 0 if it finds no fault; with --weaken NAME, 0 if it
// finds one.
template <class Model>
int run(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--weaken") == 0) g_weakened = argv[2];
  const bool must_fail = !g_weakened.empty();
  std::ostream silence(nullptr);
  rl::test_params params;
  params.search_type = rl::sched_full;
  params.execution_depth_limit = 1000;
  params.progress_stream = &silence;
  const bool clean = rl::simulate<Model>(params);
  std::cout << params.stop_iteration
            << " interleavings: " << rl::test_result_str(params.test_result) << '\n';
  if (clean != must_fail) return 0;
  std::cout << (must_fail ? "the weakened order went unnoticed" : "the model found a fault")
            << '\n';
  return 1;
}

}  // namespace model
