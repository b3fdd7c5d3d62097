#include "engine/moe.hpp"

#include <cstdint>

namespace moetrace::engine {

namespace {

// The (row, choice) pairs sorted by expert, by a counting sort.
struct Grouping {
  std::vector<int64_t> first;  // [experts + 1]: expert e has sorted pairs [first[e], first[e + 1])
  at::Tensor row;              // [pairs]: row of each sorted pair
  at::Tensor place;            // [pairs]: index of pair (row, choice) among the sorted pairs
};

Grouping group_by_expert(const at::Tensor& ids, int64_t experts) {
  const at::Tensor dense = ids.contiguous();
  const int64_t* expert = dense.data_ptr<int64_t>();
  const int64_t pairs = dense.numel();
  const int64_t top_k = dense.size(1);
  Grouping grouping{std::vector<int64_t>(static_cast<size_t>(experts) + 1),
                    at::empty({pairs}, at::kLong), at::empty({pairs}, at::kLong)};
  for (int64_t i = 0; i < pairs; ++i) ++grouping.first[static_cast<size_t>(expert[i]) + 1];
  for (size_t e = 1; e < grouping.first.size(); ++e) grouping.first[e] += grouping.first[e - 1];
  std::vector<int64_t> next(grouping.first.begin(), grouping.first.end() - 1);
  auto* row = grouping.row.data_ptr<int64_t>();
  auto* place = grouping.place.data_ptr<int64_t>();
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t to = next[static_cast<size_t>(expert[i])]++;
    row[to] = i / top_k;
    place[i] = to;
  }
  return grouping;
}

}  // namespace

Mlp Mlp::load(WeightLoader& loader, const std::string& prefix, int64_t hidden,
              int64_t intermediate) {
  return {loader.get(prefix + "gate_proj.weight", {intermediate, hidden}),
          loader.get(prefix + "up_proj.weight", {intermediate, hidden}),
          loader.get(prefix + "down_proj.weight", {hidden, intermediate})};
}

at::Tensor Mlp::forward(const at::Tensor& x) const {
  return down.linear(at::silu(gate.linear(x)).mul_(up.linear(x)));
}

MoeBlock MoeBlock::load(WeightLoader& loader, const std::string& prefix,
                        const ModelConfig& config) {
  MoeBlock block;
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.moe_intermediate_size;
  block.top_k_ = config.top_k;
  block.norm_topk_prob_ = config.norm_topk_prob;
  block.router_ = loader.get(prefix + "gate.weight", {config.num_experts, hidden});
  // Either each expert has matrices of its own, or (transformers from version 5 on) one tensor
  // stacks those of all experts.
  const std::string stacked = prefix + "experts.gate_up_proj";
  if (loader.has(stacked)) {
    const Weight gate_up = loader.get(stacked, {config.num_experts, 2 * inner, hidden});
    const Weight down =
        loader.get(prefix + "experts.down_proj", {config.num_experts, hidden, inner});
    for (int64_t e = 0; e < config.num_experts && !loader.error(); ++e) {
      block.experts_.push_back({gate_up.select(e).narrow(0, inner),
                                gate_up.select(e).narrow(inner, inner), down.select(e)});
    }
  } else {
    for (int64_t e = 0; e < config.num_experts && !loader.error(); ++e) {
      block.experts_.push_back(
          Mlp::load(loader, prefix + "experts." + std::to_string(e) + ".", hidden, inner));
    }
  }
  block.shared_ =
      Mlp::load(loader, prefix + "shared_expert.", hidden, config.shared_intermediate_size);
  block.shared_gate_ = loader.get(prefix + "shared_expert_gate.weight", {1, hidden});
  return block;
}

Routing MoeBlock::route(const at::Tensor& x) const {
  const at::Tensor probability = at::softmax(router_.linear(x), -1);
  auto [weights, ids] = at::topk(probability, top_k_, -1);
  if (norm_topk_prob_) weights = weights.div(weights.sum(-1, /*keepdim=*/true));
  return {weights, ids};
}

at::Tensor MoeBlock::run_experts(const at::Tensor& x, const Routing& routing) const {
  const Grouping grouping = group_by_expert(routing.ids, static_cast<int64_t>(experts_.size()));
  const at::Tensor sorted = x.index_select(0, grouping.row);
  const int64_t inner = experts_.front().down.stored().size(1);
  at::Tensor gate = at::empty({sorted.size(0), inner}, x.options());
  at::Tensor up = at::empty_like(gate);
  at::Tensor out = at::empty_like(sorted);
  const auto each_used = [&](auto&& work) {
    for (size_t e = 0; e < experts_.size(); ++e) {
      const int64_t first = grouping.first[e];
      const int64_t count = grouping.first[e + 1] - first;
      if (count > 0) work(experts_[e], first, count);
    }
  };
  const auto multiply = [](at::Tensor& to, const at::Tensor& from, const Weight& weight,
                           int64_t first, int64_t count) {
    at::Tensor part = to.narrow(0, first, count);
    at::mm_out(part, from.narrow(0, first, count), weight.float32().t());
  };
  each_used([&](const Mlp& expert, int64_t first, int64_t count) {
    multiply(gate, sorted, expert.gate, first, count);
    multiply(up, sorted, expert.up, first, count);
  });
  at::silu_(gate).mul_(up);
  each_used([&](const Mlp& expert, int64_t first, int64_t count) {
    multiply(out, gate, expert.down, first, count);
  });
  const at::Tensor per_choice =
      out.index_select(0, grouping.place).view({x.size(0), top_k_, x.size(1)});
  return per_choice.mul(routing.weights.unsqueeze(-1)).sum(1);
}

at::Tensor MoeBlock::forward(const at::Tensor& x, int64_t layer, RouterHook* hook) const {
  Routing routing = route(x);
  if (hook != nullptr) hook->routed(layer, routing.weights, routing.ids);
  const at::Tensor share = at::sigmoid(shared_gate_.linear(x));
  return run_experts(x, routing).add_(shared_.forward(x).mul_(share));
}

}  // namespace moetrace::engine
