#include "trace/selection.hpp"

#include <string>

namespace moetrace::trace {

Selection::Selection(const Meta& meta, Warnings& warnings) : warnings_(warnings) {
  for (const std::uint16_t layer : meta.layers_logged) layers_.set(layer);
  sample_every_ = meta.sample_every.value_or(1);
}

void Selection::take(const Control& control) {
  known_ = true;
  constant_ = false;
  enabled_ = control.enabled.value_or(true);
  sample_every_ = control.sample_every;
  from_step_ = control.from_step;
  layers_.reset();
  for (const std::uint16_t layer : control.layers) layers_.set(layer);
}

void Selection::check(const Step& step) {
  if (step.layers == 0) constant_ = false;
  if (!known_) return;
  const bool sampled = step.layers == 0 || (sample_every_ != 0 && step.step % sample_every_ == 0);
  if (enabled_ && sampled && step.layers <= layers_.count() && step.step >= from_step_) return;
  warnings_.add(Strange::kStepNotSelected, line_, [&] {
    const std::string name = "step " + std::to_string(step.step);
    if (!enabled_) return name + " came while tracing was stopped";
    if (!sampled) return name + " is recorded, sample_every is " + std::to_string(sample_every_);
    if (step.step < from_step_)
      return name + " came before step " + std::to_string(from_step_) + ", from which it is so";
    return name + " records " + std::to_string(step.layers) + " layers of " +
           std::to_string(layers_.count());
  });
}

void Selection::check(const Route& route) {
  if (!known_ || layers_.test(route.layer)) return;
  warnings_.add(Strange::kLayerNotSelected, line_,
                [&] { return "a row of layer " + std::to_string(route.layer); });
}

}  // namespace moetrace::trace
